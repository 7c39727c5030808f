"""The conversation with the planner server over ZMQ, from the robot's side.

One DEALER socket, one thread, no call that waits without a limit. Only the newest observation is
ever waiting to be sent: a full or broken connection keeps that one and forgets older ones, so that
a server which comes back never plans for the past. A connection that broke, and that ZMQ renewed
unasked, is greeted again at once, so that orders get through also while nothing is asked. Pings share
the socket and are answered at once, which tells a server that is busy planning from one that is gone.
"""

import logging
import secrets
import time
from types import TracebackType

from typing_extensions import Self

from robot_client import protocol
from robot_client.connection import Connection, ServerAddress
from robot_client.errors import ProtocolError, ServerRefusedError, ServerUnreachableError
from robot_client.obedience import Obedience
from robot_client.protocol import (
    Ack,
    Act,
    Bye,
    Closing,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Pause,
    Ping,
    Pong,
    Resume,
    Stop,
    Welcome,
)
from robot_client.version import VERSION

__all__ = ["PlannerClient", "ServerAddress"]

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 0.5
_PINGS_PER_PERIOD = 12  # so that a server that is gone is found out soon after one period
_POLL_S = 0.02


class PlannerClient:
    """Sends observations, receives plans; not for use from several threads.

    Args:
        address: Of the server.

    Attributes:
        welcome: What the server said last.
        orders: Carries out what an operator orders, in the thread that polls.
        is_server_closing: It has said that it ends; until the next welcome.
        ignored_messages: So many so far were unreadable, or for somebody else.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._connection = Connection(address)
        self._waiting: Observe | None = None
        self._heartbeat_s = _HEARTBEAT_S
        self._next_ping = 0.0
        self._unanswered_since: float | None = None
        self._is_stranger = False
        self._instance = secrets.token_hex(8)
        self.orders = Obedience(self._send)
        self.welcome: Welcome | None = None
        self.is_server_closing = False
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
            EncryptionError: There is a server, but the keys do not fit.
            ServerRefusedError: The server answered with an error (token, session, version).
        """
        self._connection.open()
        self._waiting = self._unanswered_since = None
        self._is_stranger = False
        deadline = time.monotonic() + timeout_s
        self._greet(session, deadline)
        while (message := self._receive(deadline)) is not None:
            if isinstance(message, Welcome):
                self._take(message)
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

        When several lie ready the newest is returned, but no plan in the place of an error about the
        session: the plan was made before it. Answers of foreign sessions and bytes that
        are no message are logged, counted in `ignored_messages` and passed over.

        Args:
            timeout_s: Longest wait.

        Returns:
            The answer, or None when the time is up.
        """
        deadline = time.monotonic() + timeout_s
        newest: Act | ErrorReply | None = None
        while True:
            self._greet_again_where_broken()
            self._flush()
            self._ping_when_due()
            self.orders.report()
            # Once there is an answer, only look whether a newer one lies behind it.
            message = self._receive(0.0 if newest is not None else min(deadline, _soon()))
            if isinstance(message, ErrorReply) and message.seq is None:
                return message
            if isinstance(message, Act | ErrorReply):
                newest = message if self._is_ours(message) else newest
            elif isinstance(message, Pause | Resume | Stop):
                self._obey(message)
            elif isinstance(message, Welcome):
                self._take(message)
            elif isinstance(message, Closing):
                self.is_server_closing = True
                logger.warning("the server is closing: %s", message.reason or "no reason given")
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
    def model(self) -> str:
        """Name of the server's world model."""
        return self._welcomed().model

    @property
    def control_period_s(self) -> float:
        """The model's control period [s]."""
        return self._welcomed().control_period_s

    def silence_s(self) -> float:
        """How long the server has owed any answer at all [s]; 0 when it owes none.

        A client that asked nothing meanwhile, being busy with something else, has heard nothing for
        a reason of its own.
        """
        since = self._unanswered_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Say bye, where a session is open, and free the socket; harmless when closed."""
        if self._connection.is_open and self.welcome is not None:
            self._send(Bye(session=self.welcome.session))
        self._connection.close()

    def _take(self, welcome: Welcome) -> None:
        self.welcome = welcome
        self._heartbeat_s = min(_HEARTBEAT_S, welcome.control_period_s / _PINGS_PER_PERIOD)
        self.is_server_closing = False
        self.orders.begin(welcome.session, welcome.state)

    def _obey(self, order: protocol.Order) -> None:
        if order.session == self.session:
            self.orders.take(order)
        else:
            self._ignore(f"an order for session {order.session!r}, which is not this robot's")

    def _welcomed(self) -> Welcome:
        if self.welcome is None:
            raise ServerUnreachableError("no session is open; call connect() first")
        return self.welcome

    def _greet(self, session: str | None, deadline: float) -> None:
        started = time.monotonic()
        self._note_question()
        if not self._connection.send_first(self._hello(session), deadline):
            raise self._unreachable(time.monotonic() - started, "nobody listens there")

    def _greet_again_where_broken(self) -> None:
        """Say hello on a connection that ZMQ has renewed: no order reaches a robot that has not."""
        self._is_stranger = self._connection.has_broken() or self._is_stranger
        if self._is_stranger and self._send(self._hello(self.session)):
            self._is_stranger = False
            logger.warning("the connection broke and is back; said hello again")

    def _hello(self, session: str | None) -> Hello:
        return Hello(
            protocol=protocol.PROTOCOL_VERSION,
            client=f"vjepa-planner {VERSION}",
            token=self._address.token,
            session=session,
            instance=self._instance,
        )

    def _unreachable(self, waited_s: float, finding: str) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"no planner server at {self._address.endpoint} after {waited_s:.1f} s: {finding}. "
            "Start it with `uvicorn planner_server.app:app`, or name another with --server."
        )

    def _flush(self) -> None:
        if self._waiting is not None and not self._is_stranger and self._send(self._waiting):
            self._waiting = None

    def _ping_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_ping:
            self._next_ping = now + self._heartbeat_s
            self._send(Ping(t=now))

    def _send(self, message: Message) -> bool:
        is_sent = self._connection.send(message)
        if not isinstance(message, Ack | Bye):
            self._note_question()
        return is_sent

    def _note_question(self) -> None:
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()

    def _receive(self, deadline: float) -> Message | None:
        """The next message of any kind before `deadline` (monotonic), else None."""
        while True:
            payload = self._connection.receive(deadline - time.monotonic())
            if payload is None:
                return None
            try:
                message = protocol.decode(payload)
            except ProtocolError as error:
                self._ignore(f"a message that cannot be read: {error}")
                if time.monotonic() >= deadline:
                    return None  # however much rubbish lies ready
                continue
            self._unanswered_since = None
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
    return time.monotonic() + _POLL_S
