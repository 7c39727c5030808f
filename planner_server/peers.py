"""Who is connected to the robots' door, and which of them holds which session. Lives on the event loop."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from planner_server.errors import PlannerError
from planner_server.security.tokens import Caller

_MAX_PEERS = 4096  # connections whose hello is remembered
TAKE_OVER_AFTER_S = 3.0  # silence after which another client may have the session


@dataclass(eq=False)
class Peer:
    """One connection that has said hello, once for every session that it speaks for.

    Attributes:
        identity: ZMQ's name of the connection.
        caller: Whose token it showed.
        instance: The client's own name, the same in all its connections; None where it has none.
        heard_s: When anything came from it last [s].
        newest_seq: Of its observations so far, by session.
    """

    identity: bytes
    caller: Caller
    instance: str | None
    heard_s: float
    newest_seq: dict[str, int] = field(default_factory=dict)


class Peers:
    """The connections, and who holds which session.

    Args:
        clock: Source of time [s]; a test passes its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[bytes, Peer] = OrderedDict()
        self._holders: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def find(self, identity: bytes) -> Peer | None:
        """Return a connection that has said hello, and note that it was heard."""
        peer = self._peers.get(identity)
        if peer is not None:
            peer.heard_s = self._clock()
        return peer

    def greet(
        self, identity: bytes, caller: Caller, session_id: str, instance: str | None
    ) -> Peer | None:
        """Let a connection have a session, and return the one that thereby loses it.

        Raises:
            PlannerError: `session_taken`, when another client holds it and is alive.
        """
        holder = self.holder(session_id)
        loser = holder if holder is not None and holder.identity != identity else None
        if loser is not None and self._is_defended(loser, instance):
            raise PlannerError(
                "session_taken",
                f"session {session_id} is held by another client that was heard a moment ago; end that one, wait "
                f"{TAKE_OVER_AFTER_S:g} s after its end, or make a session of your own",
            )
        peer = self._peers.setdefault(identity, Peer(identity, caller, instance, self._clock()))
        peer.caller, peer.instance = caller, instance
        peer.newest_seq[session_id] = -1
        self._holders[session_id] = identity
        if len(self._peers) > _MAX_PEERS:
            self.forget(next(iter(self._peers.values())))
        return loser

    def holder(self, session_id: str) -> Peer | None:
        """Return the connection that holds a session."""
        return self._peers.get(self._holders.get(session_id, b""))

    def check_holds(self, peer: Peer, session_id: str) -> None:
        """Refuse a connection that speaks about a session that it does not hold.

        Raises:
            PlannerError: `unauthorised` or `session_taken`.
        """
        if session_id not in peer.newest_seq:
            raise PlannerError(
                "unauthorised",
                f"this connection has not said hello for session {session_id[:64]!r}; send `hello` with it first",
            )
        if self._holders.get(session_id) != peer.identity:
            raise PlannerError(
                "session_taken",
                f"another client has taken session {session_id}; hold the arm, and do not take it back unasked",
            )

    def held_by(self, peer: Peer) -> list[str]:
        """Return the sessions that a connection holds."""
        return [each for each in peer.newest_seq if self._holders.get(each) == peer.identity]

    def check_order(self, peer: Peer, session_id: str, seq: int) -> None:
        """Refuse an observation that is not newer than all before it on this connection.

        Raises:
            PlannerError: `stale_seq`.
        """
        newest = peer.newest_seq[session_id]
        if seq <= newest:
            raise PlannerError(
                "stale_seq",
                f"seq is {seq} but {newest} was received on this connection already; "
                "seq must grow, and starts anew with a hello",
            )
        peer.newest_seq[session_id] = seq

    def release(self, session_id: str) -> None:
        """Note that a session is over."""
        holder = self._peers.get(self._holders.pop(session_id, b""))
        if holder is not None:
            holder.newest_seq.pop(session_id, None)

    def silent(self, after_s: float) -> list[Peer]:
        """Return the connections that were not heard for a time [s]."""
        before_s = self._clock() - after_s
        return [peer for peer in self._peers.values() if peer.heard_s < before_s]

    def forget(self, peer: Peer) -> None:
        """Forget a connection; its session stays."""
        for session_id in self.held_by(peer):
            del self._holders[session_id]
        self._peers.pop(peer.identity, None)

    def _is_defended(self, holder: Peer, instance: str | None) -> bool:
        """Whether a holder keeps its session against a newcomer: it is alive, and they are two clients for sure."""
        if instance is None or holder.instance is None or instance == holder.instance:
            return False
        return self._clock() - holder.heard_s < TAKE_OVER_AFTER_S
