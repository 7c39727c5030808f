"""Who may connect to the robots' door, and by what name the server knows the connection.

ZMQ asks about every connection before it lets it in (ZAP, ZeroMQ RFC 27). The answer gives each a name that no other
connection of this process ever has. That name, not the routing id, which a client may choose for itself, is what a
greeting is tied to: whoever comes after a robot under its routing id has not said hello.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils import z85

from planner_server.security.keys import CurveKeys, KnownKeys

logger = logging.getLogger(__name__)

_ENDPOINT = "inproc://zeromq.zap.01"  # where ZMQ asks
_NAME = "User-Id"  # the property of a message that carries our answer
_DOMAIN = b"robots"
_ACCEPTED, _REFUSED = (b"200", b"OK"), (b"400", b"NO ACCESS")


class Admission:
    """Answers ZMQ's questions about connections.

    Args:
        context: The context of the socket that is guarded.
        keys: The server's own, and where the clients' are; None lets everybody in, unencrypted.
    """

    def __init__(self, context: zmq.asyncio.Context, keys: CurveKeys | None) -> None:
        self._keys = keys
        self._known = KnownKeys(keys.clients) if keys else None
        self._numbers = itertools.count(1)
        self._socket = context.socket(zmq.REP)
        self._socket.bind(_ENDPOINT)

    def guard(self, socket: zmq.Socket[Any]) -> None:
        """Have ZMQ ask about the connections of a socket that is not bound yet, and encrypt it where there are keys."""
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        if self._keys is not None:
            socket.curve_server = True
            socket.curve_publickey = self._keys.public
            socket.curve_secretkey = self._keys.secret

    async def answer(self) -> None:
        """Answer until cancelled."""
        while True:
            question = await self._socket.recv_multipart()
            version, request, _, address, _, mechanism, *credentials = question
            is_accepted = self._is_accepted(address, mechanism, credentials)
            status = _ACCEPTED if is_accepted else _REFUSED
            name = str(next(self._numbers)).encode() if is_accepted else b""
            await self._socket.send_multipart([version, request, *status, name, b""])

    def _is_accepted(self, address: bytes, mechanism: bytes, credentials: list[bytes]) -> bool:
        if self._known is None:
            return mechanism == b"NULL"
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        is_known = self._known.has(key)
        if not is_known:
            logger.warning(
                "a client at %s with the unknown key %s is refused", address.decode(), key.decode()
            )
        return is_known


def connection_of(part: zmq.Frame) -> str:
    """Return the name of the connection that a received message part came by."""
    return str(part.get(_NAME))
