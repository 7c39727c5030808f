"""Wire protocol, version 1: the messages between a robot and the planner server.

One msgpack map per ZMQ message, client DEALER, server ROUTER:

    hello -> welcome            who talks, and what the model expects
    observe -> act | error      a frame and a state in, the next actions out
    ping -> pong                liveness; never waits for planning
    bye                         the session may be dropped
    pause, resume, stop -> ack  the server's orders, repeated until they are acknowledged
    closing                     the server is about to end; its sessions survive it

Numeric arrays travel as extension type 1 (`codec`), images as arrays or `{encoding, data}`. Unknown
keys are ignored so that a newer peer may add some. Every message validates itself when built, here
or from bytes, and the only error is `ProtocolError` with a wire error code. An observation that a
newer one of the same session overtook gets no reply; `act.dropped` counts those.

Poses, everywhere: bare flange (link8) in the robot base frame, x y z [m], roll pitch yaw extrinsic
xyz Euler [rad], gripper closedness 0 (open) to 1 (closed). Actions: the difference of two such
states over one control period.
"""

from robot_client import codec, fields
from robot_client.protocol.decoding import MESSAGES, PROTOCOL_VERSION, Message, decode
from robot_client.protocol.orders import ARM_REPORTS, Ack, Order, Pause, Resume, Stop
from robot_client.protocol.planning import (
    MAX_GOALS,
    SESSION_STATES,
    Act,
    ActionLimits,
    Bye,
    Closing,
    ErrorReply,
    Hello,
    Observe,
    Ping,
    Pong,
    Welcome,
)

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
MAX_MESSAGE_BYTES = codec.MAX_MESSAGE_BYTES
MAX_HORIZON = fields.MAX_HORIZON

ERROR_CODES = (
    "malformed_message",
    "unknown_type",
    "unsupported_protocol",
    "unknown_session",
    "session_ended",
    "no_goal",
    "invalid_state",
    "invalid_frame",
    "unauthorised",
    "too_large",
    "invalid_request",
    "planner_failed",
    "too_many_sessions",
    "shutting_down",
    "not_ready",
    "paused",
    "stopped",
    "session_taken",
    "stale_seq",
    "rate_limited",
    "forbidden",
)

__all__ = [
    "ARM_REPORTS",
    "DEFAULT_ADDRESS",
    "ERROR_CODES",
    "MAX_GOALS",
    "MAX_HORIZON",
    "MAX_MESSAGE_BYTES",
    "MESSAGES",
    "PROTOCOL_VERSION",
    "SESSION_STATES",
    "Ack",
    "Act",
    "ActionLimits",
    "Bye",
    "Closing",
    "ErrorReply",
    "Hello",
    "Message",
    "Observe",
    "Order",
    "Pause",
    "Ping",
    "Pong",
    "Resume",
    "Stop",
    "Welcome",
    "decode",
]
