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

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, get_type_hints

from robot_client import codec, fields
from robot_client.errors import ProtocolError
from robot_client.fields import Check, Frame, States

PROTOCOL_VERSION = 1
DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
MAX_MESSAGE_BYTES = codec.MAX_MESSAGE_BYTES
MAX_GOALS = 16
MAX_HORIZON = fields.MAX_HORIZON

ERROR_CODES = (
    "malformed_message",
    "unknown_type",
    "unsupported_protocol",
    "unknown_session",
    "no_goal",
    "invalid_state",
    "invalid_frame",
    "unauthorised",
    "too_large",
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
SESSION_STATES = ("running", "paused", "stopped")


def _limits(name: str, value: Any) -> "ActionLimits":
    if isinstance(value, ActionLimits):
        return value
    if not isinstance(value, dict):
        raise fields.refuse(name, value, "a map of limits")
    return ActionLimits(**_known_fields(ActionLimits, value))


_Name = Annotated[str, fields.text(128)]
_Token = Annotated[str | None, fields.optional(fields.text(512))]
_Session = Annotated[str, fields.text(64)]
_Seq = Annotated[int, fields.integer(0, fields.MAX_SEQ)]
_Instance = Annotated[str | None, fields.optional(fields.text(64))]
_State = Annotated[str, fields.one_of(SESSION_STATES)]
_Reason = Annotated[str, fields.text(512, min_length=0)]
_Flag = Annotated[bool, fields.flag]
_GoalIndex = Annotated[int, fields.integer(0, MAX_GOALS - 1)]
_AnyGoal = Annotated[int | None, fields.optional(fields.integer(0, MAX_GOALS - 1))]
_GoalCount = Annotated[int, fields.integer(0, MAX_GOALS)]
_Seconds = Annotated[float, fields.number()]
_Energy = Annotated[float, fields.number(0.0)]
_Milliseconds = Annotated[float, fields.number(0.0)]
_Count = Annotated[int, fields.integer(0, fields.MAX_SEQ)]
_StateRows = Annotated[States, fields.states]
_Limit = Annotated[float, fields.number(0.0, 10.0)]
_Version = Annotated[int, fields.integer(0, 2**31)]
_Planners = Annotated[tuple[str, ...], fields.sequence(fields.text(64), 0, 32)]
_Warnings = Annotated[tuple[str, ...], fields.sequence(fields.text(512, min_length=0), 0, 32)]
_FrameSize = Annotated[
    tuple[int, int], fields.sequence(fields.integer(1, codec.MAX_IMAGE_SIDE_PX), 2, 2)
]


# --- the messages ---------------------------------------------------------------------------------


_CHECKS: dict[type, dict[str, Check]] = {}


def _checks(kind: type) -> dict[str, Check]:
    """Each field's check in order of declaration; read from the annotations once per class."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        names = [field.name for field in dataclasses.fields(kind)]
        _CHECKS[kind] = {name: hints[name].__metadata__[0] for name in names}
    return _CHECKS[kind]


def _known_fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The entries that are fields of `kind`; those without a default must be there."""
    for field in dataclasses.fields(kind):
        if field.name not in values and field.default is dataclasses.MISSING:
            present = ", ".join(sorted(map(str, values))) or "nothing"
            text = f"{kind.__name__.lower()} lacks {field.name!r}; it has {present[:200]}"
            raise ProtocolError("malformed_message", text)
    return {
        field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values
    }


class _Validated:
    """Runs each field's check when built and keeps the canonical value."""

    def __post_init__(self) -> None:
        for name, check in _checks(type(self)).items():
            # The dataclasses are frozen for everybody else; this is their constructor.
            object.__setattr__(self, name, check(name, getattr(self, name)))

    def as_map(self) -> dict[str, Any]:
        """The fields in order of declaration, ready for `codec.pack`."""
        values = {name: getattr(self, name) for name in _checks(type(self))}
        return {k: v.as_map() if isinstance(v, _Validated) else v for k, v in values.items()}


class _Message(_Validated):
    """A message of its own; `TYPE` is what travels under the key "type"."""

    TYPE: ClassVar[str]

    def encode(self) -> bytes:
        """The message as one msgpack payload; equal messages give equal bytes."""
        return codec.pack({"type": self.TYPE, **self.as_map()})


@dataclass(frozen=True)
class ActionLimits(_Validated):
    """Box that every planned action lies in.

    Attributes:
        max_step_m: Largest displacement per axis over one control period [m].
        max_rotation_rad: Largest rotation per Euler angle [rad]; 0 where rotations are not searched.
        max_gripper: Largest change of gripper closedness.
    """

    max_step_m: _Limit
    max_rotation_rad: _Limit
    max_gripper: _Limit


@dataclass(frozen=True, eq=False)
class Hello(_Message):
    """The client introduces itself, or takes up `session` again after a broken connection.

    Attributes:
        protocol: The version this client speaks.
        client: Name and version, for logs.
        token: Secret, where the server wants one.
        session: The session to take up; None makes a new one.
        instance: Random name of this client, the same in all its connections: by it the server tells
            a robot that comes back from a second one that claims its session.
    """

    TYPE: ClassVar[str] = "hello"
    protocol: _Version
    client: _Name
    token: _Token = None
    session: Annotated[str | None, fields.optional(fields.text(64))] = None
    instance: _Instance = None


@dataclass(frozen=True, eq=False)
class Welcome(_Message):
    """What the server's model expects: frame size (height, width) [px], control period [s].

    Attributes:
        protocol: The version this server speaks.
        server: Name and version.
        session: To be sent with every observation.
        model: Name of the world model.
        frame_size: Height and width the model sees [px].
        control_period_s: Time that one action takes [s].
        action_limits: Box of every action of this session.
        planners: Names that a session may choose.
        state: "running"; a session may also be found "paused" or "stopped".
        goals: Goals that the session has.
        goal_index: Sub-goal under way, where the server keeps count of them.
    """

    TYPE: ClassVar[str] = "welcome"
    protocol: _Version
    server: _Name
    session: _Session
    model: _Name
    frame_size: _FrameSize
    control_period_s: Annotated[float, fields.number(1e-3, 60.0)]
    action_limits: Annotated[ActionLimits, _limits]
    planners: _Planners = ()
    state: _State = "running"
    goals: _GoalCount = 0
    goal_index: _GoalIndex = 0


@dataclass(frozen=True, eq=False)
class Observe(_Message):
    """One frame and the state at its capture.

    Attributes:
        session: Whose observation this is.
        seq: Grows by one per observation; the reply repeats it.
        t_capture: The client's monotonic clock at capture [s]; the server only hands it on in logs.
        frame: uint8 RGB [H, W, 3], or the same compressed.
        state: float64 [7], see the module's text.
        goal_index: Which of the session's goals to plan for; None leaves the count of the sub-goals
            to the server, which goes on when one's steps are used up or its energy is reached.
        committed: Actions [k, 7] that the arm is executing, from `state` on; the plan is for what
            comes after them.
    """

    TYPE: ClassVar[str] = "observe"
    session: _Session
    seq: _Seq
    t_capture: _Seconds
    frame: Annotated[Frame, fields.frame]
    state: Annotated[States, fields.state]
    goal_index: _AnyGoal = 0
    committed: Annotated[States | None, fields.optional(fields.states)] = None


@dataclass(frozen=True, eq=False)
class Act(_Message):
    """The plan for one observation.

    Attributes:
        session: Whose plan this is.
        seq: Sequence number of the observation it answers.
        actions: float64 [horizon, 7]; the first is to be executed now.
        predicted_states: float64 [horizon, 7], the state after each action.
        energy: Energy predicted after the plan's last step; lower is closer to the goal.
        energy_now: Energy of the observed frame itself.
        encode_ms: Time spent encoding the frame [ms].
        plan_ms: Time spent searching [ms].
        queue_ms: Time the observation waited for the planning worker [ms].
        evaluations: Action sequences that were scored.
        goal_index: The goal this plan is for.
        dropped: Observations of this session overtaken so far.
        warnings: For people; at most 32.
        energy_do_nothing: Energy predicted for holding still; None where it was not computed.
        surprise: Mean distance of the observed tokens from those predicted for the way the arm has
            really gone since the observation before; None where there is nothing to compare.
        is_goal_done: This goal's steps are used up or its energy threshold is reached.
        is_task_done: And it was the session's last one.
    """

    TYPE: ClassVar[str] = "act"
    session: _Session
    seq: _Seq
    actions: _StateRows
    predicted_states: _StateRows
    energy: _Energy
    energy_now: _Energy
    encode_ms: _Milliseconds
    plan_ms: _Milliseconds
    queue_ms: _Milliseconds
    evaluations: _Count
    goal_index: _GoalIndex = 0
    dropped: _Count = 0
    warnings: _Warnings = ()
    energy_do_nothing: Annotated[float | None, fields.optional(fields.number(0.0))] = None
    surprise: Annotated[float | None, fields.optional(fields.number(0.0))] = None
    is_goal_done: _Flag = False
    is_task_done: _Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.actions.shape != self.predicted_states.shape:
            shapes = f"{self.actions.shape} and {self.predicted_states.shape}"
            text = f"actions and predicted_states have shapes {shapes}; they must agree"
            raise ProtocolError("malformed_message", text, seq=self.seq)


@dataclass(frozen=True, eq=False)
class Ping(_Message):
    """Is anybody there? `t` [s] is the sender's own clock and comes back unchanged."""

    TYPE: ClassVar[str] = "ping"
    t: _Seconds


@dataclass(frozen=True, eq=False)
class Pong(_Message):
    """The answer to a ping, sent at once and never behind a plan."""

    TYPE: ClassVar[str] = "pong"
    t: _Seconds


@dataclass(frozen=True, eq=False)
class Bye(_Message):
    """The client leaves; the server may forget the session."""

    TYPE: ClassVar[str] = "bye"
    session: _Session


@dataclass(frozen=True, eq=False)
class _Order(_Message):
    """What an operator wants of the robot; sent again every half second until it is acknowledged.

    Attributes:
        session: Whose robot is meant.
        order: Grows with every order of the session; one with a number not above the last obeyed is
            acknowledged once more and otherwise ignored.
        reason: For people.
    """

    session: _Session
    order: _Count
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
class Ack(_Message):
    """The client has obeyed `order` (its arm holds, or may move again)."""

    TYPE: ClassVar[str] = "ack"
    session: _Session
    order: _Count


@dataclass(frozen=True, eq=False)
class Closing(_Message):
    """The server ends: plans under way are still answered; hold, and call again after a while."""

    TYPE: ClassVar[str] = "closing"
    reason: _Reason = ""


@dataclass(frozen=True, eq=False)
class ErrorReply(_Message):
    """The server cannot do what was asked; a code it does not know is passed to the user as is."""

    TYPE: ClassVar[str] = "error"
    code: Annotated[str, fields.text(64)]
    message: Annotated[str, fields.text(4096, min_length=0)]
    seq: Annotated[int | None, fields.optional(fields.integer(0, fields.MAX_SEQ))] = None


Order: TypeAlias = Pause | Resume | Stop
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
        return MESSAGES[kind](**_known_fields(MESSAGES[kind], values))
    except ProtocolError as error:
        raise ProtocolError(error.code, error.message, seq=seq) from error
