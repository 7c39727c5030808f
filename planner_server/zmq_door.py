"""The robots' door: a ZMQ ROUTER that speaks protocol version 1 (`robot_client.protocol`) on the event loop.

It never plans and never waits for a plan: an observation becomes a task that answers when the worker has, and the
next message is read at once. Whatever bytes arrive, the answer is a message or silence, never an exception; whoever
does not read its answers loses them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Coroutine
from typing import Any

import zmq
import zmq.asyncio

from planner_server import __version__
from planner_server.errors import PlannerError, StartupError, SupersededError, to_wire
from planner_server.images import decode_image
from planner_server.options import PlanOptions
from planner_server.peers import Peer, Peers
from planner_server.plan_request import Frame
from planner_server.security.keys import CurveGuard, CurveKeys
from planner_server.security.rates import RateLimiter
from planner_server.security.tokens import Role
from planner_server.service import Observation, PlannerService
from planner_server.sessions import Session
from planner_server.terms import limits_of
from robot_client.codec import EncodedImage
from robot_client.errors import ProtocolError
from robot_client.protocol import (
    MAX_MESSAGE_BYTES,
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

_RECEIVE_QUEUE = 2  # messages ZMQ itself may hold per peer, before TCP makes the peer wait
_SEND_QUEUE = 8  # answers that wait for a peer to read them; further ones are dropped
_BACKLOG = 512
_LINGER_MS = 200
# A little beyond the limit the peer is told what is wrong; further beyond, ZMQ cuts it off without a word.
_CUT_OFF_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024
_HEARTBEAT_MS = 5000  # between the transports: a pulled cable is noticed
_HEARTBEAT_TIMEOUT_MS = 15_000
_REPEAT_ORDERS_S = 0.5
_FORGET_PEERS_S = 120.0


class ZmqDoor:
    """Listens for robots until closed.

    Args:
        endpoint: Where to listen, for example tcp://127.0.0.1:5555; port * takes a free one.
        rates: How often one peer may speak.
        keys: Of the encryption; None listens in the clear.
    """

    def __init__(self, endpoint: str, rates: RateLimiter, keys: CurveKeys | None = None) -> None:
        self._rates = rates
        self._complaints = RateLimiter(per_s=1.0, burst=1.0)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._guard = CurveGuard(self._context, keys) if keys else None
        self._peers = Peers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._set_options()
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise StartupError(
                f"cannot listen for robots on {endpoint}: {error.strerror}. Stop the server that "
                "uses it, or choose another: PLANNER_ZMQ_ENDPOINT=tcp://127.0.0.1:5556"
            ) from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def start(self, service: PlannerService) -> None:
        """Begin to read messages, on the running event loop; `service` does the work."""
        self._service = service
        if self._guard is not None:
            self._guard.start()
        service.on_order.append(self._send_order)
        self._loops = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_house())]

    async def announce_end(self) -> None:
        """Tell every robot that the server ends; plans under way are still answered."""
        for peer in self._peers:
            await self._send(
                peer.identity, Closing("the server is stopping; call again when it is back")
            )

    async def close(self) -> None:
        """Stop reading, let the answers under way be sent, and free the port."""
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=_LINGER_MS)

    def _set_options(self) -> None:
        for option, value in (
            (zmq.LINGER, _LINGER_MS),
            (zmq.MAXMSGSIZE, _CUT_OFF_BYTES),
            (zmq.RCVHWM, _RECEIVE_QUEUE),
            (zmq.SNDHWM, _SEND_QUEUE),
            (zmq.BACKLOG, _BACKLOG),
            (zmq.ROUTER_MANDATORY, 1),  # so that a lost answer is noticed
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
            (zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS),
        ):
            self._socket.setsockopt(option, value)
        if self._guard is not None:
            self._guard.protect(self._socket)

    # Reading and answering ----------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            identity, *parts = await self._socket.recv_multipart()
            received_s = time.monotonic()
            if self._rates.is_allowed(identity):
                self._do(self._answer(identity, parts, received_s))
            elif self._complaints.is_allowed(identity):
                text = "more messages than the server takes; the ones too many are dropped, carry on slower"
                self._do(self._send(identity, self._refusal(PlannerError("rate_limited", text))))
            await asyncio.sleep(0)  # a burst must not keep HTTP and the answers waiting

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, identity: bytes, parts: list[bytes], received_s: float) -> None:
        """Answer one message; runs up to the handing over to the worker before the next message is read."""
        reply = await self._reply_to(identity, parts, received_s)
        if reply is not None:
            await self._send(identity, reply)

    async def _send(self, identity: bytes, message: Message) -> None:
        """Send, or drop what the peer is too slow to read: the server's memory is not its buffer."""
        try:
            await self._socket.send_multipart([identity, message.encode()], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise
            self._service.metrics.count_unsent()

    async def _reply_to(
        self, identity: bytes, parts: list[bytes], received_s: float
    ) -> Message | None:
        seq = None
        try:
            message = decode(_only_part(parts))
            if isinstance(message, Observe):
                seq = message.seq
            return await self._handle(identity, message, received_s)
        except SupersededError:
            return None
        except ProtocolError as error:
            self._service.metrics.count_error("zmq", error.code)
            return ErrorReply(error.code, error.message, error.seq if seq is None else seq)
        except PlannerError as error:
            return self._refusal(error, seq)
        except Exception:
            logger.exception("a message could not be handled")
            return self._refusal(
                PlannerError("planner_failed", "the server's log has the details"), seq
            )

    def _refusal(self, error: PlannerError, seq: int | None = None) -> ErrorReply:
        self._service.metrics.count_error("zmq", error.code)
        return to_wire(error, seq)

    async def _handle(self, identity: bytes, message: Message, received_s: float) -> Message | None:
        peer = self._peers.find(identity)
        match message:
            case Ping():
                self._keep_alive(peer)
                return Pong(t=message.t)
            case Hello():
                return await self._greet(identity, message, peer)
            case Observe():
                return await self._plan(self._greeted(peer), message, received_s)
            case Ack():
                self._acknowledge(self._greeted(peer), message)
                return None
            case Bye():
                self._take_leave(self._greeted(peer), message)
                return None
            case ErrorReply():  # answering errors with errors would never end
                logger.warning("a client reports %s: %s", message.code, message.message)
                return None
            case _:
                text = (
                    f"{message.TYPE!r} is a server's message; send hello, observe, ping, ack or bye"
                )
                raise ProtocolError("unknown_type", text)

    async def _greet(self, identity: bytes, hello: Hello, peer: Peer | None) -> Welcome:
        service = self._service
        caller = service.tokens.identify(hello.token)
        caller.require(Role.PLAN)
        session = await self._session_for(hello, peer, caller.name)
        loser = self._peers.greet(identity, caller, session.id, hello.instance)
        if loser is not None:
            service.archive.note("session_taken", session.id, hello.client)
            text = f"another client has taken session {session.id}; hold the arm"
            self._do(self._send(loser.identity, self._refusal(PlannerError("session_taken", text))))
        session.epoch += 1
        logger.info("%s joins session %s", hello.client, session.id)
        service.archive.note("hello", session.id, caller.name, hello.client)
        if session.order() is not None:
            self._send_order(session)
        return self._welcome(session)

    async def _session_for(self, hello: Hello, peer: Peer | None, actor: str) -> Session:
        """Return the session that a hello means; the same hello again means the same one."""
        service = self._service
        if hello.session is not None:
            return await service.find_session(hello.session)
        for held in self._peers.held_by(peer) if peer else ():
            if (known := service.sessions.peek(held)) is not None:
                return known
        session, _ = service.create_session(PlanOptions(), actor)
        return session

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

    def _greeted(self, peer: Peer | None) -> Peer:
        if peer is None:
            raise PlannerError(
                "unauthorised",
                "this connection has not said hello; send `hello` first, and again after every reconnection",
            )
        return peer

    async def _plan(self, peer: Peer, observe: Observe, received_s: float) -> Act:
        service = self._service
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
            self._service.acknowledge(session, ack.order)

    def _take_leave(self, peer: Peer, bye: Bye) -> None:
        self._service.sessions.get(bye.session)
        self._peers.check_holds(peer, bye.session)
        self._peers.release(bye.session)
        self._service.end_session(bye.session, peer.caller.name)

    # Orders and house-keeping -------------------------------------------------------------------

    def _keep_alive(self, peer: Peer | None) -> None:
        """A robot that pings, though it holds, has not left its session."""
        for session_id in self._peers.held_by(peer) if peer else ():
            session = self._service.sessions.peek(session_id)
            if session is not None:
                self._service.sessions.touch(session)

    def _send_order(self, session: Session) -> None:
        """Tell a robot what an operator wants; it is told again until it has obeyed."""
        order, holder = session.order(), self._peers.holder(session.id)
        if order is not None and holder is not None:
            self._do(self._send(holder.identity, order))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_REPEAT_ORDERS_S)
            for session in self._service.sessions.all():
                self._send_order(session)
            for peer in self._peers.silent(_FORGET_PEERS_S):
                self._peers.forget(peer)
            self._service.metrics.peers.set(len(self._peers))


def _only_part(parts: list[bytes]) -> bytes:
    if len(parts) != 1:
        text = f"{len(parts)} parts; send one msgpack payload per message, from a DEALER"
        raise ProtocolError("malformed_message", text)
    return parts[0]


def _read_frame(observe: Observe) -> Frame:
    """As strict as HTTP: a file cut short would otherwise be planned for with its lower half grey."""
    frame = observe.frame
    return decode_image(frame.data, "frame") if isinstance(frame, EncodedImage) else frame
