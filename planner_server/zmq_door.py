"""The robots' door: a ZMQ ROUTER that speaks protocol version 1 (`robot_client.protocol`) on the event loop.

It never plans and never waits for a plan: an observation becomes a task that answers when the worker has, and the
next message is read at once. Whatever bytes arrive, the answer is a message or silence, never an exception.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

import zmq
import zmq.asyncio

from planner_server import __version__
from planner_server.errors import PlannerError, StartupError, SupersededError, to_wire
from planner_server.images import decode_image
from planner_server.plan_request import Frame
from planner_server.service import PlannerService, limits_of
from planner_server.sessions import PlanOptions
from robot_client.codec import EncodedImage
from robot_client.errors import ProtocolError
from robot_client.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Act,
    Bye,
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

_MAX_PEERS = 4096  # connections whose hello is remembered
_RECEIVE_QUEUE = 64  # messages ZMQ itself may hold per peer
_LINGER_MS = 200
# ZMQ cuts off a peer that sends more, without a word; up to there the peer is told what is wrong.
_CUT_OFF_BYTES = 4 * MAX_MESSAGE_BYTES


class ZmqDoor:
    """Listens for robots until closed.

    Args:
        service: Who does the work.
        endpoint: Where to listen, for example tcp://127.0.0.1:5555; port * takes a free one.
    """

    def __init__(self, service: PlannerService, endpoint: str) -> None:
        self._service = service
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _CUT_OFF_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, _RECEIVE_QUEUE)
        self._greeted: OrderedDict[bytes, None] = OrderedDict()
        self._answers: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise StartupError(
                f"cannot listen for robots on {endpoint}: {error.strerror}. Stop the server that "
                "uses it, or choose another: PLANNER_ZMQ_ENDPOINT=tcp://127.0.0.1:5556"
            ) from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def start(self) -> None:
        """Begin to read messages, on the running event loop."""
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Stop reading, let the answers under way be sent, and free the port."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        if self._answers:
            await asyncio.wait(self._answers, timeout=1.0)
        self._context.destroy(linger=_LINGER_MS)

    async def _read(self) -> None:
        while True:
            peer, *parts = await self._socket.recv_multipart()
            answer = asyncio.create_task(self._answer(peer, parts))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)
            await asyncio.sleep(0)  # a burst must not keep HTTP and the answers waiting

    async def _answer(self, peer: bytes, parts: list[bytes]) -> None:
        """Answer one message; runs up to the handing over to the worker before the next message is read."""
        reply = await self._reply_to(peer, parts)
        if reply is not None:
            await self._socket.send_multipart([peer, reply.encode()])

    async def _reply_to(self, peer: bytes, parts: list[bytes]) -> Message | None:
        seq = None
        try:
            message = decode(_only_part(parts))
            if isinstance(message, Observe):
                seq = message.seq
            return await self._handle(peer, message)
        except SupersededError:
            return None
        except ProtocolError as error:
            return ErrorReply(error.code, error.message, error.seq if seq is None else seq)
        except PlannerError as error:
            return to_wire(error, seq)
        except Exception:
            logger.exception("a message could not be handled")
            return ErrorReply("planner_failed", "the server's log has the details", seq)

    async def _handle(self, peer: bytes, message: Message) -> Message | None:
        match message:
            case Ping():
                return Pong(t=message.t)
            case Hello():
                return self._greet(peer, message)
            case Observe():
                self._check_greeted(peer)
                return await self._plan(message)
            case Bye():
                self._check_greeted(peer)
                self._service.sessions.delete(message.session)
                return None
            case ErrorReply():  # answering errors with errors would never end
                logger.warning("a client reports %s: %s", message.code, message.message)
                return None
            case _:
                text = f"{message.TYPE!r} is a server's message; send hello, observe, ping or bye"
                raise ProtocolError("unknown_type", text)

    def _greet(self, peer: bytes, hello: Hello) -> Welcome:
        service = self._service
        service.authorise(hello.token)
        if hello.session is None:
            session = service.create_session(PlanOptions())
        else:
            session = service.sessions.get(hello.session)
        self._greeted[peer] = None
        self._greeted.move_to_end(peer)
        if len(self._greeted) > _MAX_PEERS:
            self._greeted.popitem(last=False)
        logger.info("%s joins session %s", hello.client, session.id)
        return Welcome(
            protocol=PROTOCOL_VERSION,
            server=f"vjepa-planner {__version__}",
            session=session.id,
            model=service.model.name,
            frame_size=service.model.frame_size,
            control_period_s=service.model.control_period_s,
            action_limits=limits_of(session.max_step),
            planners=tuple(service.planners),
        )

    def _check_greeted(self, peer: bytes) -> None:
        """Where there is a secret, only connections whose `hello` carried it are served."""
        if peer not in self._greeted:
            self._service.authorise(None)

    async def _plan(self, observe: Observe) -> Act:
        service = self._service
        session = service.sessions.get(observe.session)
        planned = await service.observe(
            session, observe.seq, lambda: _read_frame(observe), observe.state, observe.goal_index
        )
        return Act(
            session=session.id,
            seq=observe.seq,
            actions=planned.plan.actions,
            predicted_states=planned.plan.predicted_states,
            energy=planned.plan.energy,
            energy_now=planned.plan.energy_now,
            encode_ms=planned.encode_ms,
            plan_ms=planned.plan_ms,
            queue_ms=planned.queue_ms,
            evaluations=planned.plan.evaluations,
            goal_index=observe.goal_index,
            dropped=session.counters.dropped,
            warnings=planned.warnings,
        )


def _only_part(parts: list[bytes]) -> bytes:
    if len(parts) != 1:
        text = f"{len(parts)} parts; send one msgpack payload per message, from a DEALER"
        raise ProtocolError("malformed_message", text)
    return parts[0]


def _read_frame(observe: Observe) -> Frame:
    """As strict as HTTP: a file cut short would otherwise be planned for with its lower half grey."""
    frame = observe.frame
    return decode_image(frame.data, "frame") if isinstance(frame, EncodedImage) else frame
