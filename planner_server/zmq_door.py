"""The robots' door: a ZMQ ROUTER on the event loop. What is said through it, `dialogue.py` knows.

It never plans and never waits for a plan: an observation becomes a task that answers when the worker has, and the
next message is read at once. Whoever does not read its answers loses them.
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

from planner_server.dialogue import Dialogue
from planner_server.errors import PlannerError, StartupError
from planner_server.peers import Sender
from planner_server.security.admission import Admission, connection_of
from planner_server.security.keys import CurveKeys
from planner_server.security.rates import RateLimiter
from planner_server.service import PlannerService
from robot_client.protocol import MAX_MESSAGE_BYTES, Message

logger = logging.getLogger(__name__)

_RECEIVE_QUEUE = 2  # messages ZMQ itself may hold per peer, before TCP makes the peer wait
_SEND_QUEUE = 8  # answers that wait for a peer to read them; further ones are dropped
# The kernel's, besides: left to itself it would hold megabytes for a peer that does not read.
_SEND_BUFFER_BYTES = 64 * 1024
_BACKLOG = 512
_LINGER_MS = 200
# A little beyond the limit the peer is told what is wrong; further beyond, ZMQ cuts it off without a word.
_CUT_OFF_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024
_HEARTBEAT_MS = 5000  # between the transports: a pulled cable is noticed
_HEARTBEAT_TIMEOUT_MS = 15_000
_REPEAT_ORDERS_S = 0.5


class ZmqDoor:
    """Listens for robots until closed.

    Args:
        endpoint: Where to listen, for example tcp://127.0.0.1:5555; port * takes a free one.
        rates: How often one connection may speak.
        keys: Of the encryption; None listens in the clear.
    """

    def __init__(self, endpoint: str, rates: RateLimiter, keys: CurveKeys | None = None) -> None:
        self._rates = rates
        self._complaints = RateLimiter(per_s=1.0, burst=1.0)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._admission = Admission(self._context, keys)
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
        self._dialogue = Dialogue(service, self._tell)
        service.orders.doors.append(self._dialogue.tell_order)
        service.sessions.on_ended.append(self._dialogue.tell_end)
        work = (self._admission.answer(), self._read(), self._keep_house())
        self._loops = [asyncio.create_task(each) for each in work]

    async def announce_end(self) -> None:
        """Tell every robot that the server ends; plans under way are still answered."""
        for sender, farewell in self._dialogue.farewells():
            await self._send(sender, farewell)

    async def close(self) -> None:
        """Stop reading, let the answers under way be sent, and free the port."""
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        self._context.destroy(linger=_LINGER_MS)

    def _set_options(self) -> None:
        for option, value in (
            (zmq.LINGER, _LINGER_MS),
            (zmq.MAXMSGSIZE, _CUT_OFF_BYTES),
            (zmq.RCVHWM, _RECEIVE_QUEUE),
            (zmq.SNDHWM, _SEND_QUEUE),
            (zmq.SNDBUF, _SEND_BUFFER_BYTES),
            (zmq.BACKLOG, _BACKLOG),
            (zmq.ROUTER_MANDATORY, 1),  # so that a lost answer is noticed
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
            (zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS),
        ):
            self._socket.setsockopt(option, value)
        self._admission.guard(self._socket)

    # Reading and answering ----------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            received_s = time.monotonic()
            identity, *parts = (frame.bytes for frame in frames)
            sender = Sender(identity, connection_of(frames[-1]))
            if self._rates.is_allowed(sender.connection):
                self._do(self._answer(sender, parts, received_s))
            elif self._complaints.is_allowed(sender.connection):
                text = "more messages than the server takes; the ones too many are dropped, carry on slower"
                refusal = self._dialogue.refusal(PlannerError("rate_limited", text))
                self._tell(sender, refusal)
            await asyncio.sleep(0)  # a burst must not keep HTTP and the answers waiting

    def _tell(self, sender: Sender, message: Message) -> None:
        """Send something that no message of the peer asked for."""
        self._do(self._send(sender, message))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, sender: Sender, parts: list[bytes], received_s: float) -> None:
        """Answer one message; runs up to the handing over to the worker before the next message is read."""
        reply = await self._dialogue.reply_to(sender, parts, received_s)
        if reply is not None:
            await self._send(sender, reply)

    async def _send(self, sender: Sender, message: Message) -> None:
        """Send, or drop what the peer is too slow to read: the server's memory is not its buffer."""
        try:
            await self._socket.send_multipart([sender.identity, message.encode()], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise
            self._service.metrics.count_unsent()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_REPEAT_ORDERS_S)
            try:
                self._dialogue.keep_house()
            except Exception:  # the top of a loop that must go on: orders are repeated by it
                logger.exception("keeping house failed; it is tried again")
