"""Who is connected to the robots' door, and which of them holds which session. Lives on the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from planner_server.errors import PlannerError
from planner_server.security.tokens import Caller

_MAX_PEERS = 4096  # connections whose hello is remembered
TAKE_OVER_AFTER_S = 3.0  # silence after which another client may have the session


class Sender(NamedTuple):
    """Where a message came from, and where answers go.

    Attributes:
        identity: ZMQ's routing id, which the client may have chosen, and which another may have next.
        connection: The server's own name of the connection, which no other ever has.
    """

    identity: bytes
    connection: str


@dataclass(eq=False)
class Peer:
    """One connection that has said hello, once for every session that it speaks for.

    Attributes:
        sender: Its connection.
        caller: Whose token it showed.
        instance: The client's own name, the same in all its connections; None where it has none.
        heard_s: When anything came from it last [s].
        newest_seq: Of its observations so far, by session.
    """

    sender: Sender
    caller: Caller
    instance: str | None
    heard_s: float
    newest_seq: dict[str, int] = field(default_factory=dict)


class Peers:
    """The connections, and who holds which session.

    Args:
        clock: Source of time [s]; a test passes its own.
        most: Connections remembered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = _MAX_PEERS) -> None:
        self._clock = clock
        self._most = most
        self._peers: dict[str, Peer] = {}  # by connection
        self._holders: dict[str, str] = {}  # connection by session

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def find(self, sender: Sender) -> Peer | None:
        """Return a connection that has said hello, and note that it was heard."""
        peer = self._peers.get(sender.connection)
        if peer is not None:
            peer.heard_s = self._clock()
        return peer

    def greet(
        self, sender: Sender, caller: Caller, session_id: str, instance: str | None
    ) -> Peer | None:
        """Let a connection have a session, and return the one that thereby loses it and is to be told.

        Raises:
            PlannerError: `session_taken`, when another client holds it and is alive; `too_many_sessions`, when more
                connections are at work than are remembered.
        """
        loser = self.holder(session_id)
        if loser is not None and loser.sender == sender:
            loser = None
        if loser is not None and self._is_defended(loser, instance):
            raise PlannerError(
                "session_taken",
                f"session {session_id} is held by another client that was heard a moment ago; end that one, wait "
                f"{TAKE_OVER_AFTER_S:g} s after its end, or make a session of your own",
            )
        peer = self._peers.get(sender.connection)
        if peer is None:
            self._make_room()
            peer = self._peers[sender.connection] = Peer(sender, caller, instance, self._clock())
        peer.caller, peer.instance = caller, instance
        peer.newest_seq[session_id] = -1
        self._holders[session_id] = sender.connection
        # A connection that came in under the routing id of the one before it is where that one's messages would go.
        return None if loser is None or loser.sender.identity == sender.identity else loser

    def holder(self, session_id: str) -> Peer | None:
        """Return the connection that holds a session."""
        return self._peers.get(self._holders.get(session_id, ""))

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
        if self._holders.get(session_id) != peer.sender.connection:
            raise PlannerError(
                "session_taken",
                f"another client has taken session {session_id}; hold the arm, and do not take it back unasked",
            )

    def held_by(self, peer: Peer) -> list[str]:
        """Return the sessions that a connection holds."""
        return [
            each for each in peer.newest_seq if self._holders.get(each) == peer.sender.connection
        ]

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
        holder = self._peers.get(self._holders.pop(session_id, ""))
        if holder is not None:
            holder.newest_seq.pop(session_id, None)

    def release_all_but(self, session_ids: Collection[str]) -> None:
        """Note that all other sessions are over, however they ended."""
        for session_id in self._holders.keys() - session_ids:
            self.release(session_id)

    def silent(self, after_s: float) -> list[Peer]:
        """Return the connections that were not heard for a time [s]."""
        before_s = self._clock() - after_s
        return [peer for peer in self._peers.values() if peer.heard_s < before_s]

    def forget(self, peer: Peer) -> None:
        """Forget a connection; its session stays."""
        for session_id in self.held_by(peer):
            del self._holders[session_id]
        self._peers.pop(peer.sender.connection, None)

    def _make_room(self) -> None:
        """Forget a connection where there are too many: one that holds nothing before one that works."""
        if len(self._peers) < self._most:
            return
        working = set(self._holders.values())
        idlest = min(
            self._peers.values(),
            key=lambda peer: (peer.sender.connection in working, peer.heard_s),
        )
        is_alive = self._clock() - idlest.heard_s < TAKE_OVER_AFTER_S
        if is_alive and idlest.sender.connection in working:
            raise PlannerError(
                "too_many_sessions",
                f"{len(self._peers)} robots are at work on as many connections, and no more are remembered; "
                "end one of them",
            )
        self.forget(idlest)

    def _is_defended(self, holder: Peer, instance: str | None) -> bool:
        """Whether a holder keeps its session against a newcomer: it is alive, and they are two clients for sure."""
        if instance is None or holder.instance is None or instance == holder.instance:
            return False
        return self._clock() - holder.heard_s < TAKE_OVER_AFTER_S
