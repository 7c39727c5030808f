"""What robots say and what they are told: version 1 of `robot_client.protocol`. Knows no socket.

Whatever bytes arrive, the answer is a message or silence, never an exception. Lives on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from planner_server import __version__
from planner_server.errors import PlannerError, SupersededError, to_wire
from planner_server.images import decode_image
from planner_server.options import PlanOptions
from planner_server.peers import Peer, Peers, Sender
from planner_server.plan_request import Frame, Observation
from planner_server.security.tokens import Caller, Role
from planner_server.service import PlannerService
from planner_server.session import Session
from planner_server.terms import limits_of
from robot_client.codec import EncodedImage
from robot_client.errors import ProtocolError
from robot_client.protocol import (
    PROTOCOL_VERSION,
    Ack,
    Act,
    Bye,
    Closing,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Ping,
    Pong,
    Welcome,
    decode,
)

logger = logging.getLogger(__name__)

_FORGET_PEERS_S = 120.0


class Dialogue:
    """Answers the messages of all robots.

    Args:
        service: Does the work.
        tell: Sends somebody something that no message of theirs asked for.
    """

    def __init__(self, service: PlannerService, tell: Callable[[Sender, Message], None]) -> None:
        self._service = service
        self._tell = tell
        self._peers = Peers()
        self._is_ending = False

    async def reply_to(
        self, sender: Sender, parts: list[bytes], received_s: float
    ) -> Message | None:
        """Return the answer to one message, where there is one; comes back when the plan is there.

        Args:
            sender: Who says it.
            parts: The parts of the ZMQ message, the routing id left out.
            received_s: When it arrived, `time.monotonic()`.
        """
        seq = None
        try:
            message = decode(_only_part(parts))
            if isinstance(message, Observe):
                seq = message.seq
            return await self._handle(sender, message, received_s)
        except SupersededError:
            return None
        except ProtocolError as error:
            self._service.metrics.count_error("zmq", error.code)
            return ErrorReply(error.code, error.message, error.seq if seq is None else seq)
        except PlannerError as error:
            return self.refusal(error, seq)
        except Exception:
            logger.exception("a message could not be handled")
            return self.refusal(
                PlannerError("planner_failed", "the server's log has the details"), seq
            )

    def refusal(self, error: PlannerError, seq: int | None = None) -> ErrorReply:
        """Return an error as a robot is told it, and count it."""
        self._service.metrics.count_error("zmq", error.code)
        return to_wire(error, seq)

    # Unasked ------------------------------------------------------------------------------------

    def tell_order(self, session: Session) -> bool:
        """Tell a robot what an operator wants, again until it has obeyed; returns whether one is there.

        One that has been silent for a moment is there: its arm may move all the same.
        """
        order, holder = session.order(), self._peers.holder(session.id)
        if order is not None and holder is not None:
            self._tell(holder.sender, order)
        return holder is not None

    def tell_end(self, session: Session) -> None:
        """Tell a robot that its session is over, where it has not ended it itself: its arm may move."""
        holder = self._peers.holder(session.id)
        if holder is not None:
            self._peers.release(session.id)
            self._tell(holder.sender, self.refusal(_ended(session.id)))

    def farewells(self) -> Iterator[tuple[Sender, Closing]]:
        """Yield what every robot is told when the server ends; none is greeted any more."""
        self._is_ending = True
        for peer in self._peers:
            yield peer.sender, Closing("the server is stopping; call again when it is back")

    def keep_house(self) -> None:
        """Repeat orders, and forget sessions that are over and peers that have long been silent."""
        sessions = self._service.sessions.all()
        self._peers.release_all_but({session.id for session in sessions})
        for session in sessions:
            self.tell_order(session)
        for peer in self._peers.silent(_FORGET_PEERS_S):
            self._peers.forget(peer)
        self._service.metrics.peers.set(len(self._peers))

    # Messages -----------------------------------------------------------------------------------

    async def _handle(self, sender: Sender, message: Message, received_s: float) -> Message | None:
        peer = self._peers.find(sender)
        match message:
            case Ping():
                self._keep_alive(peer)
                return Pong(t=message.t)
            case Hello():
                return await self._greet(sender, message, peer)
            case Observe():
                return await self._plan(_greeted(peer), message, received_s)
            case Ack():
                self._acknowledge(_greeted(peer), message)
                return None
            case Bye():
                self._take_leave(_greeted(peer), message)
                return None
            case ErrorReply():  # answering errors with errors would never end
                logger.warning("a client reports %s: %s", message.code, message.message)
                return None
            case _:
                text = (
                    f"{message.TYPE!r} is a server's message; send hello, observe, ping, ack or bye"
                )
                raise ProtocolError("unknown_type", text)

    def _keep_alive(self, peer: Peer | None) -> None:
        """A robot that pings, though it holds, has not left its session."""
        for session_id in self._peers.held_by(peer) if peer else ():
            if (session := self._service.sessions.peek(session_id)) is not None:
                self._service.sessions.touch(session)

    async def _greet(self, sender: Sender, hello: Hello, peer: Peer | None) -> Welcome:
        service = self._service
        if self._is_ending:  # who came in now would be told nothing when the port closes
            raise PlannerError(
                "shutting_down", "the server is stopping; call again when it is back"
            )
        caller = service.tokens.identify(hello.token)
        caller.require(Role.PLAN)
        session = await self._session_for(hello, peer, caller)
        loser = self._peers.greet(sender, caller, session.id, hello.instance)
        if loser is not None:
            service.archive.note("session_taken", session.id, hello.client)
            text = f"another client has taken session {session.id}; hold the arm"
            self._tell(loser.sender, self.refusal(PlannerError("session_taken", text)))
        session.epoch += 1
        logger.info("%s joins session %s", hello.client, session.id)
        service.archive.note("hello", session.id, caller.name, hello.client)
        if session.order() is not None:
            self.tell_order(session)
        return self._welcome(session)

    async def _session_for(self, hello: Hello, peer: Peer | None, caller: Caller) -> Session:
        """Return the session that a hello means; the same hello again means the same one."""
        service = self._service
        if hello.session is not None:
            session = await self._find_session(hello.session)
            session.check_belongs_to(caller)
            return session
        for held in self._peers.held_by(peer) if peer else ():
            if (known := service.sessions.peek(held)) is not None:
                known.check_belongs_to(caller)
                return known
        session, _ = service.create_session(PlanOptions(), caller)
        return session

    async def _find_session(self, session_id: str) -> Session:
        """Return a session; a robot whose session was ended must not begin another by itself.

        Raises:
            PlannerError: `session_ended`, or `unknown_session` for one that is lost, or never was.
        """
        try:
            return await self._service.find_session(session_id)
        except PlannerError as error:
            is_other = error.code != "unknown_session"
            if is_other or not await self._service.adoption.has_ended(session_id):
                raise
            raise _ended(session_id) from error

    def _welcome(self, session: Session) -> Welcome:
        model = self._service.model
        return Welcome(
            protocol=PROTOCOL_VERSION,
            server=f"vjepa-planner {__version__}",
            session=session.id,
            model=model.name,
            frame_size=model.frame_size,
            control_period_s=session.options.control_period_s or model.control_period_s,
            action_limits=limits_of(session.terms.max_step),
            planners=tuple(model.planners),
            state=session.state,
            goals=len(session.goals),
            goal_index=session.goal_index,
        )

    async def _plan(self, peer: Peer, observe: Observe, received_s: float) -> Act:
        service = self._service
        if service.sessions.has_ended(observe.session):
            raise _ended(observe.session)
        session = service.sessions.get(observe.session)
        self._peers.check_holds(peer, session.id)
        self._peers.check_order(peer, session.id, observe.seq)
        seen = Observation(
            seq=observe.seq,
            read_frame=lambda: _read_frame(observe),
            state=observe.state,
            goal_index=observe.goal_index,
            committed=observe.committed,
            received_s=received_s,
        )
        outcome = await service.observe(session, seen)
        self._peers.check_holds(peer, session.id)  # ended or taken meanwhile: nothing shall move
        planned, plan = outcome.planned, outcome.planned.plan
        return Act(
            session=session.id,
            seq=observe.seq,
            actions=plan.actions,
            predicted_states=plan.predicted_states,
            energy=plan.energy,
            energy_now=plan.energy_now,
            encode_ms=planned.encode_ms,
            plan_ms=planned.plan_ms,
            queue_ms=max(planned.queue_ms, 0.0),
            evaluations=plan.evaluations,
            goal_index=outcome.goal_index,
            dropped=session.counters.dropped,
            warnings=planned.warnings,
            energy_do_nothing=plan.energy_do_nothing,
            is_goal_done=outcome.is_goal_done,
            is_task_done=outcome.is_task_done,
            surprise=planned.surprise,
        )

    def _acknowledge(self, peer: Peer, ack: Ack) -> None:
        self._peers.check_holds(peer, ack.session)
        session = self._service.sessions.peek(ack.session)
        if session is not None:
            self._service.orders.acknowledge(session, ack)

    def _take_leave(self, peer: Peer, bye: Bye) -> None:
        self._service.sessions.get(bye.session)
        self._peers.check_holds(peer, bye.session)
        self._peers.release(bye.session)
        self._service.end_session(bye.session, peer.caller.name)


def _greeted(peer: Peer | None) -> Peer:
    if peer is None:
        raise PlannerError(
            "unauthorised",
            "this connection has not said hello; send `hello` first, and again after every reconnection",
        )
    return peer


def _ended(session_id: str) -> PlannerError:
    text = f"session {session_id[:64]} was ended, or long unused; hold the arm and end the run"
    return PlannerError("session_ended", text)


def _only_part(parts: list[bytes]) -> bytes:
    if len(parts) != 1:
        text = f"{len(parts)} parts; send one msgpack payload per message, from a DEALER"
        raise ProtocolError("malformed_message", text)
    return parts[0]


def _read_frame(observe: Observe) -> Frame:
    """As strict as HTTP: a file cut short would otherwise be planned for with its lower half grey."""
    frame = observe.frame
    return decode_image(frame.data, "frame") if isinstance(frame, EncodedImage) else frame
