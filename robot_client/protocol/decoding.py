"""From bytes to a message: the one door for what comes from the network."""

from typing import TypeAlias

from robot_client import codec, fields
from robot_client.errors import ProtocolError
from robot_client.protocol.message import known_fields
from robot_client.protocol.orders import Ack, Order, Pause, Resume, Stop
from robot_client.protocol.planning import (
    Act,
    Bye,
    Closing,
    ErrorReply,
    Hello,
    Observe,
    Ping,
    Pong,
    Welcome,
)

PROTOCOL_VERSION = 1

Message: TypeAlias = (
    Hello | Welcome | Observe | Act | Ping | Pong | Bye | Order | Ack | Closing | ErrorReply
)

_KINDS: tuple[type[Message], ...] = (
    Hello,
    Welcome,
    Observe,
    Act,
    Ping,
    Pong,
    Bye,
    Pause,
    Resume,
    Stop,
    Ack,
    Closing,
    ErrorReply,
)
MESSAGES: dict[str, type[Message]] = {kind.TYPE: kind for kind in _KINDS}


def decode(payload: bytes) -> Message:
    """Turn one payload into its message.

    Args:
        payload: Bytes from the network; nothing about them is trusted.

    Raises:
        ProtocolError: With the wire code (`too_large`, `malformed_message`, `unknown_type`,
            `unsupported_protocol`, `invalid_state`, `invalid_frame`) and, where it could be read,
            the observation's seq.
    """
    values = codec.unpack(payload)
    seq = values.get("seq")
    seq = seq if type(seq) is int and 0 <= seq <= fields.MAX_SEQ else None
    kind = values.get("type")
    if not isinstance(kind, str) or kind not in MESSAGES:
        known = f"known types: {', '.join(MESSAGES)}"
        raise ProtocolError(
            "unknown_type", str(fields.refuse("type", kind, known).message), seq=seq
        )
    if kind in (Hello.TYPE, Welcome.TYPE) and values.get("protocol") != PROTOCOL_VERSION:
        # Checked before the rest: another version may have other fields.
        allowed = f"this side speaks {PROTOCOL_VERSION}; update the older side"
        raise fields.refuse("protocol", values.get("protocol"), allowed, "unsupported_protocol")
    try:
        return MESSAGES[kind](**known_fields(MESSAGES[kind], values))
    except ProtocolError as error:
        raise ProtocolError(error.code, error.message, seq=seq) from error
