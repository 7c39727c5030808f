"""The conversation with the planner server over ZMQ, from the robot's side.

One DEALER socket, one thread, no call that waits without a limit. Only the newest observation is
ever waiting to be sent: a full or broken connection keeps that one and forgets older ones, so that
a server which comes back never plans for the past. Pings share the socket and are answered at once,
which tells a server that is busy planning from one that is gone.
"""

import logging
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

import zmq
from typing_extensions import Self

from robot_client import protocol
from robot_client.errors import ProtocolError, ServerRefusedError, ServerUnreachableError
from robot_client.protocol import (
    Act,
    Bye,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Ping,
    Pong,
    Welcome,
)

logger = logging.getLogger(__name__)

_LINGER_MS = 200
_HEARTBEAT_S = 0.5
_POLL_MS = 20


@dataclass(frozen=True)
class ServerAddress:
    """Where the planner listens for robots, and the secret it may want.

    Attributes:
        endpoint: ZMQ address, e.g. tcp://192.168.1.10:5555.
        token: Secret of `PLANNER_TOKEN`, where the server has one.
    """

    endpoint: str = protocol.DEFAULT_ADDRESS
    token: str | None = None


class PlannerClient:
    """Sends observations, receives plans; not for use from several threads."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._context: zmq.Context[Any] | None = None
        self._socket: zmq.Socket[Any] | None = None
        self._waiting: Observe | None = None
        self._heartbeat_s = _HEARTBEAT_S
        self._next_ping = 0.0
        self._last_heard = 0.0
        self.welcome: Welcome | None = None
        self.ignored_messages = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self, session: str | None = None, timeout_s: float = 2.5) -> Welcome:
        """Say hello and wait for the welcome.

        Args:
            session: A session made over HTTP, or an earlier one of this robot; None for a new one.
            timeout_s: Time for connection and answer together.

        Raises:
            ServerUnreachableError: Nobody answered in time.
            ServerRefusedError: The server answered with an error (token, session, version).
        """
        self._open()
        self._waiting = None
        deadline = time.monotonic() + timeout_s
        self._greet(session, deadline)
        while (message := self._receive(deadline)) is not None:
            if isinstance(message, Welcome):
                self.welcome = message
                self._heartbeat_s = min(_HEARTBEAT_S, message.control_period_s / 4)
                return message
            if isinstance(message, ErrorReply):
                raise ServerRefusedError(message.code, message.message)
        raise self._unreachable(timeout_s, "it took the connection but does not answer")

    def reconnect(self, timeout_s: float = 2.5) -> Welcome:
        """Drop the connection and take up the same session again.

        Raises:
            ServerUnreachableError, ServerRefusedError: As `connect`; after a restart of the server
                the session is gone (`unknown_session`) and with it the goals.
        """
        session = None if self.welcome is None else self.welcome.session
        return self.connect(session, timeout_s)

    def send_observation(self, observation: Observe) -> None:
        """Send, or keep as the one to be sent next; never waits."""
        self._waiting = observation
        self._flush()

    def poll_act(self, timeout_s: float) -> Act | ErrorReply | None:
        """Wait for the next plan or error of this session.

        When several lie ready the newest is returned. Answers of foreign sessions and bytes that
        are no message are logged, counted in `ignored_messages` and passed over.

        Args:
            timeout_s: Longest wait.

        Returns:
            The answer, or None when the time is up.
        """
        deadline = time.monotonic() + timeout_s
        newest: Act | ErrorReply | None = None
        while True:
            self._flush()
            self._ping_when_due()
            # Once there is an answer, only look whether a newer one lies behind it.
            message = self._receive(0.0 if newest is not None else min(deadline, _soon()))
            if isinstance(message, Act | ErrorReply):
                newest = message if self._is_ours(message) else newest
            elif message is None and (newest is not None or time.monotonic() >= deadline):
                return newest

    def listen(self, timeout_s: float) -> None:
        """Spend `timeout_s` keeping the heartbeat going; an answer that comes is for the past."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            self.poll_act(left_s)

    @property
    def session(self) -> str:
        """Id of the open session."""
        return self._welcomed().session

    @property
    def control_period_s(self) -> float:
        """The model's control period [s]."""
        return self._welcomed().control_period_s

    def silence_s(self) -> float:
        """Time since anything at all was heard from the server [s]."""
        return time.monotonic() - self._last_heard

    def close(self) -> None:
        """Say bye, where a session is open, and free the socket; harmless when closed."""
        if self._socket is not None:
            if self.welcome is not None:
                self._send(Bye(session=self.welcome.session))
            self._socket.close(linger=_LINGER_MS)
            self._socket = None
        if self._context is not None:
            self._context.destroy(linger=_LINGER_MS)
            self._context = None

    def _welcomed(self) -> Welcome:
        if self.welcome is None:
            raise ServerUnreachableError("no session is open; call connect() first")
        return self.welcome

    def _open(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
        if self._context is None:
            self._context = zmq.Context()
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, 2)
        socket.setsockopt(zmq.RCVHWM, 16)
        # Queue nothing for a peer that is not there: what is sent on return must be fresh.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket = socket
        try:
            socket.connect(self._address.endpoint)
        except zmq.ZMQError as error:
            raise ServerUnreachableError(
                f"{self._address.endpoint!r} is no address to connect to ({error.strerror}); "
                "it looks like tcp://192.168.1.10:5555"
            ) from error

    def _greet(self, session: str | None, deadline: float) -> None:
        hello = Hello(
            protocol=protocol.PROTOCOL_VERSION,
            client=f"vjepa-planner {_own_version()}",
            token=self._address.token,
            session=session,
        )
        started = time.monotonic()
        while not self._send(hello):
            if time.monotonic() >= deadline:
                raise self._unreachable(time.monotonic() - started, "nobody listens there")
            time.sleep(_POLL_MS / 1000)

    def _unreachable(self, waited_s: float, finding: str) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"no planner server at {self._address.endpoint} after {waited_s:.1f} s: {finding}. "
            "Start it with `uvicorn planner_server.app:app`, or name another with --server."
        )

    def _flush(self) -> None:
        if self._waiting is not None and self._send(self._waiting):
            self._waiting = None

    def _ping_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_ping:
            self._next_ping = now + self._heartbeat_s
            self._send(Ping(t=now))

    def _send(self, message: Message) -> bool:
        if self._socket is None:
            raise ServerUnreachableError("the client is not connected; call connect() first")
        try:
            self._socket.send(message.encode(), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self, deadline: float) -> Message | None:
        """The next message of any kind before `deadline` (monotonic), else None."""
        if self._socket is None:
            raise ServerUnreachableError("the client is not connected; call connect() first")
        while True:
            wait_ms = max(0, round(1000 * (deadline - time.monotonic())))
            if not self._socket.poll(wait_ms):
                return None
            parts = self._socket.recv_multipart()
            try:
                # A message is one part; what comes in several is none, which decode() will say.
                message = protocol.decode(parts[0] if len(parts) == 1 else b"")
            except ProtocolError as error:
                self._ignore(f"a message that cannot be read: {error}")
                if time.monotonic() >= deadline:
                    return None  # however much rubbish lies ready
                continue
            self._last_heard = time.monotonic()
            if not isinstance(message, Pong):
                return message
            if time.monotonic() >= deadline:
                return None

    def _is_ours(self, message: Act | ErrorReply) -> bool:
        if isinstance(message, Act) and message.session != self.session:
            self._ignore(f"a plan for session {message.session!r}, which is not this robot's")
            return False
        return True

    def _ignore(self, what: str) -> None:
        self.ignored_messages += 1
        logger.warning("ignored %s", what)


def _soon() -> float:
    return time.monotonic() + _POLL_MS / 1000


def _own_version() -> str:
    try:
        return version("vjepa-planner")
    except PackageNotFoundError:
        return "source"
