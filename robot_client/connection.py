"""One ZMQ connection to a planner server: opened, encrypted where keys are given, never waited for.

What is sent is sent now or not at all, and why no connection comes about is said: nobody listens, or
the two sides do not agree about keys.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from robot_client import protocol
from robot_client.errors import EncryptionError, ServerUnreachableError
from robot_client.protocol import Message

_LINGER_MS = 200
_POLL_MS = 20
#: A connection may also break once while its server restarts.
_REFUSALS_NEEDED = 2
_WATCHED_EVENTS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True)
class ServerAddress:
    """Where the planner listens for robots, and the secret it may want.

    Attributes:
        endpoint: ZMQ address, e.g. tcp://192.168.1.10:5555.
        token: Secret of `PLANNER_TOKEN`, where the server has one.
        own_key: This robot's secret certificate (ZMQ's format), where the server wants CURVE.
        server_key: The server's public certificate.
    """

    endpoint: str = protocol.DEFAULT_ADDRESS
    token: str | None = None
    own_key: Path | None = None
    server_key: Path | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether both certificates are given."""
        return self.own_key is not None and self.server_key is not None


class Connection:
    """A DEALER socket that can be opened again and again; not for use from several threads.

    Args:
        address: Of the server.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._context: zmq.Context[Any] | None = None
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None
        self._refusals = 0

    @property
    def is_open(self) -> bool:
        """Whether `open` was called, and `close` was not."""
        return self._socket is not None

    def open(self) -> None:
        """Drop an older connection and begin a new one.

        Raises:
            ServerUnreachableError: The address is none.
            EncryptionError: The certificates cannot be used.
        """
        self._drop(linger_ms=0)
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
        self._socket, self._refusals = socket, 0
        if self._address.is_encrypted:
            _encrypt(socket, self._address)
        self._monitor = socket.get_monitor_socket(_WATCHED_EVENTS)
        try:
            socket.connect(self._address.endpoint)
        except zmq.ZMQError as error:
            raise ServerUnreachableError(
                f"{self._address.endpoint!r} is no address to connect to ({error.strerror}); "
                "it looks like tcp://192.168.1.10:5555"
            ) from error

    def send_first(self, message: Message, deadline: float) -> bool:
        """Send as soon as there is a connection; False when there is none by `deadline` (monotonic).

        Raises:
            EncryptionError: There is a server, but it and this client do not agree about keys.
        """
        while not self.send(message):
            self._look_for_refusal()
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_MS / 1000)
        self.has_broken()  # what happened before this message does not concern it
        return True

    def has_broken(self) -> bool:
        """Whether the connection has broken since the last call.

        ZMQ makes another one unasked, and the server takes that for a stranger's.
        """
        return zmq.EVENT_DISCONNECTED in self._events()

    def send(self, message: Message) -> bool:
        """Send now; False where that is not possible, and then the message is forgotten."""
        try:
            self._opened().send(message.encode(), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, timeout_s: float) -> bytes | None:
        """One message, or None when there is none in time.

        A message is one part; what comes in several is none, and comes out as no bytes.
        """
        socket = self._opened()
        if not socket.poll(max(0, round(1000 * timeout_s))):
            return None
        parts: list[bytes] = socket.recv_multipart()
        return parts[0] if len(parts) == 1 else b""

    def close(self) -> None:
        """Free the socket, after what was sent is on its way; harmless when closed."""
        self._drop(_LINGER_MS)
        if self._context is not None:
            self._context.destroy(linger=_LINGER_MS)
            self._context = None

    def _opened(self) -> "zmq.Socket[Any]":
        if self._socket is None:
            raise ServerUnreachableError("the client is not connected; call connect() first")
        return self._socket

    def _drop(self, linger_ms: int) -> None:
        if self._socket is not None:
            self._end_monitor()
            self._socket.close(linger=linger_ms)
            self._socket = None

    def _end_monitor(self) -> None:
        if self._monitor is not None and self._socket is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None

    def _look_for_refusal(self) -> None:
        for event in self._events():
            if event == zmq.EVENT_DISCONNECTED:
                continue
            self._refusals += 1
            is_clear = event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            if is_clear or self._refusals >= _REFUSALS_NEEDED:
                raise EncryptionError(_why_refused(event, self._address))

    def _events(self) -> list[int]:
        """What has happened to the connection since this was asked last."""
        events: list[int] = []
        while self._monitor is not None and self._monitor.poll(0):
            events.append(recv_monitor_message(self._monitor)["event"])
        return events


def _why_refused(event: int, address: ServerAddress) -> str:
    """Which side's key is the wrong one, from how the handshake ended."""
    where = f"the planner server at {address.endpoint}"
    if not address.is_encrypted:
        return (
            f"{where} hangs up on a client without keys: it wants encryption (or is no planner "
            "server). Give --key NAME.key_secret and --server-key SERVER.key"
        )
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return (
            f"{where} does not know this robot's key ({address.own_key}): copy its public half, "
            "NAME.key, into the server's folder of clients (PLANNER_CURVE_CLIENTS)"
        )
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return (
            f"{where} listens without encryption: leave --key and --server-key out, or give the "
            "server its keys"
        )
    return (
        f"{where} does not prove to be the one in {address.server_key}: it has another key, or "
        "listens without encryption (then leave --key and --server-key out). Copy the server's "
        "public key again; where it has not changed, somebody else answers there"
    )


def _encrypt(socket: "zmq.Socket[Any]", address: ServerAddress) -> None:
    """Use CURVE: the server proves who it is, and so does this client."""
    own, server = address.own_key, address.server_key
    if own is None or server is None:
        return
    try:
        public, secret = zmq.auth.load_certificate(own)
        server_public, _ = zmq.auth.load_certificate(server)
    except (OSError, ValueError) as error:
        raise EncryptionError(
            f"no certificates in {own} and {server}: {error}. Make them with "
            "`python -m planner_server keys NAME`."
        ) from error
    if secret is None:
        raise EncryptionError(f"{own} has no secret key; give NAME.key_secret")
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = server_public
