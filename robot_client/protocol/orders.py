"""The server's orders to a robot, and how the robot says what became of them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from robot_client import fields
from robot_client.protocol.message import WireMessage

#: What `Ack.arm` may say.
ARM_REPORTS = ("standing", "stopping", "free", "unknown")

_Session = Annotated[str, fields.text(64)]
_Number = Annotated[int, fields.integer(0, fields.MAX_SEQ)]
_Reason = Annotated[str, fields.text(512, min_length=0)]


@dataclass(frozen=True, eq=False)
class _Order(WireMessage):
    """What an operator wants of the robot; sent again every half second until it is acknowledged.

    Attributes:
        session: Whose robot is meant.
        order: Grows with every order of the session; one with a number not above the last obeyed is
            acknowledged once more and otherwise ignored.
        reason: For people.
    """

    session: _Session
    order: _Number
    reason: _Reason = ""


@dataclass(frozen=True, eq=False)
class Pause(_Order):
    """Hold the arm where it is and keep the session; observations are refused with `paused`."""

    TYPE: ClassVar[str] = "pause"


@dataclass(frozen=True, eq=False)
class Resume(_Order):
    """Go on observing."""

    TYPE: ClassVar[str] = "resume"


@dataclass(frozen=True, eq=False)
class Stop(_Order):
    """Stop the arm and end the run; only an operator's `resume` lets the session plan again."""

    TYPE: ClassVar[str] = "stop"


@dataclass(frozen=True, eq=False)
class Ack(WireMessage):
    """The client has obeyed `order`, and this is what its arm does now.

    An order whose arm does not come to rest at once is acknowledged twice: "stopping", then
    "standing".

    Attributes:
        session: Whose robot this is.
        order: The order's number.
        arm: "standing": measured at rest; "stopping": told to come to rest, another
            acknowledgement follows; "free": it may move again; "unknown": it was told, but its
            state could not be read.
        t_applied: The client's monotonic clock when the arm had been told [s].
        applied_ms: From the order's arrival at the client to this acknowledgement [ms].
    """

    TYPE: ClassVar[str] = "ack"
    session: _Session
    order: _Number
    arm: Annotated[str, fields.one_of(ARM_REPORTS)] = "unknown"
    t_applied: Annotated[float | None, fields.optional(fields.number())] = None
    applied_ms: Annotated[float | None, fields.optional(fields.number(0.0))] = None


Order: TypeAlias = Pause | Resume | Stop
