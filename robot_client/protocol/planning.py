"""The messages about plans, from the greeting to the goodbye."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from robot_client import codec, fields
from robot_client.errors import ProtocolError
from robot_client.fields import Frame, States
from robot_client.protocol.message import Validated, WireMessage, known_fields

MAX_GOALS = 16
SESSION_STATES = ("running", "paused", "stopped")


def _limits(name: str, value: Any) -> "ActionLimits":
    if isinstance(value, ActionLimits):
        return value
    if not isinstance(value, dict):
        raise fields.refuse(name, value, "a map of limits")
    return ActionLimits(**known_fields(ActionLimits, value))


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


@dataclass(frozen=True)
class ActionLimits(Validated):
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
class Hello(WireMessage):
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
class Welcome(WireMessage):
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
class Observe(WireMessage):
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
    committed: Annotated[States | None, fields.optional(fields.committed)] = None


@dataclass(frozen=True, eq=False)
class Act(WireMessage):
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
class Ping(WireMessage):
    """Is anybody there? `t` [s] is the sender's own clock and comes back unchanged."""

    TYPE: ClassVar[str] = "ping"
    t: _Seconds


@dataclass(frozen=True, eq=False)
class Pong(WireMessage):
    """The answer to a ping, sent at once and never behind a plan."""

    TYPE: ClassVar[str] = "pong"
    t: _Seconds


@dataclass(frozen=True, eq=False)
class Bye(WireMessage):
    """The client leaves; the server may forget the session."""

    TYPE: ClassVar[str] = "bye"
    session: _Session


@dataclass(frozen=True, eq=False)
class Closing(WireMessage):
    """The server ends: plans under way are still answered; hold, and call again after a while."""

    TYPE: ClassVar[str] = "closing"
    reason: _Reason = ""


@dataclass(frozen=True, eq=False)
class ErrorReply(WireMessage):
    """The server cannot do what was asked; a code it does not know is passed to the user as is."""

    TYPE: ClassVar[str] = "error"
    code: Annotated[str, fields.text(64)]
    message: Annotated[str, fields.text(4096, min_length=0)]
    seq: Annotated[int | None, fields.optional(fields.integer(0, fields.MAX_SEQ))] = None
