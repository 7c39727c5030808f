"""JSON that the HTTP API answers with: metres, radians (extrinsic xyz Euler), closedness 0 (open) to 1 (closed)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from planner_server.options import PlanOptions
from planner_server.plan_request import Planned
from planner_server.planning import StopReason
from planner_server.session import Session


class Health(BaseModel):
    """The process runs."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """The first plan can be made at once."""

    status: str = Field(examples=["ready"])
    problem: str | None = Field(
        default=None, description="What does not work although plans are made; null: nothing."
    )


class ErrorAnswer(BaseModel):
    """Every error looks like this; `message` says what to do."""

    code: str = Field(examples=["invalid_state"])
    message: str = Field(
        examples=["state has 6 numbers; send 7: x y z [m], roll pitch yaw [rad], ..."]
    )
    request_id: str = Field(description="Also in the server's log and the X-Request-ID header.")


class Limits(BaseModel):
    """Box that every planned action lies in."""

    max_step_m: float = Field(description="Largest displacement per axis and control period [m].")
    max_rotation_rad: float = Field(description="Largest rotation per Euler angle [rad].")
    max_gripper: float = Field(description="Largest change of closedness.")


class Geometry(BaseModel):
    """What the model makes of a frame, and how many it sees."""

    rows: int = Field(description="Rows of patches; the stream's heat map has these.")
    columns: int = Field(description="Columns of patches.")
    max_frames: int = Field(description="Frames of context and horizon together, less one.")


class ModelCard(BaseModel):
    """What is served and what it expects."""

    name: str = Field(examples=["shipped"])
    frame_size: tuple[int, int] = Field(
        description="Height and width the model sees [px]; frames of other sizes are cropped and resized.",
        examples=[[128, 128]],
    )
    frame_geometry: str = Field(
        description="Part of a frame that is looked at.", examples=["centre_square"]
    )
    geometry: Geometry
    control_period_s: float = Field(description="Time one action takes [s].", examples=[1.0])
    action_limits: Limits
    planners: list[str] = Field(examples=[["icem", "cem"]])
    default_planner: str = Field(examples=["icem"])
    horizon: int = Field(description="Actions per plan.", examples=[1])
    deadline_ms: float | None = Field(description="Of sessions that name none [ms].")
    zmq_endpoint: str = Field(examples=["tcp://127.0.0.1:5555"])
    sha256: str = Field(description="Of the file with the weights.")
    parameters: int = Field(description="Weights of encoder and predictor together.")
    device: str = Field(examples=["cpu"])
    precision: str = Field(
        description="float32, bfloat16 or float8, of the search's matrix products."
    )
    server: str = Field(examples=["vjepa-planner 0.1.0"])


class GoalInfo(BaseModel):
    """One goal, as stored."""

    index: int
    name: str
    sha256: str = Field(
        description="Of the decoded pixels: the same image again is not encoded again."
    )
    width: int
    height: int
    images: int = Field(description="Images that show this goal.")
    max_steps: int | None
    energy_threshold: float | None
    region: list[float] | None
    has_mask: bool


class Goals(BaseModel):
    """A session's goals in the order of the task."""

    goals: list[GoalInfo]
    saved: bool | None = Field(
        default=None, description="After an upload: whether the goals are on disk already."
    )

    @classmethod
    def of(cls, session: Session) -> Goals:
        """Describe a session's goals."""
        return cls(goals=[_goal_info(index, goal) for index, goal in enumerate(session.goals)])


class SessionInfo(Goals):
    """One robot's conversation with the planner."""

    id: str
    owner: str = Field(
        description="Name of the token that it belongs to: only it and the role operate may change it."
    )
    planner: str
    options: PlanOptions
    action_limits: Limits
    control_period_s: float
    zmq_endpoint: str = Field(
        description="Where this session's robot connects.", examples=["tcp://127.0.0.1:5555"]
    )
    state: Literal["running", "paused", "stopped"]
    order: int = Field(description="Number of the last order to the robot; 0 before the first.")
    is_order_obeyed: bool = Field(
        description="Whether the robot has reported an arm that stands, or is free after a resume."
    )
    arm: str | None = Field(
        description="What it said to that order: standing, stopping, free or unknown; null before it has answered."
    )
    goal_index: int = Field(description="Sub-goal under way.")
    goal_steps: int = Field(description="Plans made for it.")
    created_at: datetime
    idle_s: float = Field(description="Time since the session was last used [s].")
    observations: int = Field(description="Observations received.")
    plans: int = Field(description="Plans made.")
    dropped: int = Field(description="Observations that a newer one overtook.")
    errors: int = Field(description="Observations answered with an error.")
    late: int = Field(description="Plans that took longer than they may.")


class SessionList(BaseModel):
    """The open sessions, oldest first."""

    sessions: list[SessionInfo]


class EnergyAnswer(BaseModel):
    """Energies in the order of the sequences."""

    energies: list[float]
    energy_now: float = Field(description="Distance of the current frame to the goal.")
    energy_do_nothing: float = Field(description="Predicted distance after holding still.")
    encode_ms: float
    model_ms: float
    request_id: str


class LandscapeAnswer(BaseModel):
    """Energies over a grid; the last axis changes fastest."""

    axes: list[str]
    values: list[list[float]] = Field(description="Per axis.")
    energies: list[float]
    best_action: list[float] = Field(description="`[7]`, the point of lowest energy.")
    best_energy: float
    energy_now: float
    energy_do_nothing: float
    encode_ms: float
    model_ms: float
    request_id: str


class PlanAnswer(BaseModel):
    """The best action sequence found."""

    actions: list[list[float]] = Field(
        description="One row of 7 per control period; execute the first."
    )
    predicted_states: list[list[float]] = Field(description="Pose after each action.")
    energy: float = Field(
        description="Predicted distance to the goal after these actions; lower is closer."
    )
    energy_now: float = Field(description="Distance of the current frame to the goal.")
    energy_do_nothing: float = Field(description="Predicted distance after holding still.")
    energy_per_iteration: list[float | None] = Field(
        description="Lowest energy known after every iteration."
    )
    evaluations: int = Field(description="Action sequences imagined.")
    stop_reason: StopReason
    encode_ms: float
    plan_ms: float
    queue_ms: float
    warnings: list[str]
    request_id: str

    @classmethod
    def of(cls, planned: Planned, request_id: str) -> PlanAnswer:
        """Describe a plan."""
        return cls(**_plan_fields(planned), request_id=request_id)


class SessionPlanAnswer(PlanAnswer):
    """A plan in a session."""

    seq: int
    goal_index: int
    is_goal_done: bool = Field(description="Its steps are used up or its energy is reached.")
    is_task_done: bool = Field(description="And it was the last goal.")
    surprise: float | None = Field(
        description="How far the frame is from what the model expected of the last step."
    )


class PlanRecord(BaseModel):
    """A plan as it was recorded."""

    id: int
    at: datetime
    session_id: str | None
    seq: int | None
    record: dict[str, Any]


class PlanHistory(BaseModel):
    """Plans, newest first; ask for those `before` the last id to read on."""

    plans: list[PlanRecord]


class EventRecord(BaseModel):
    """Something that happened."""

    id: int
    at: datetime
    session_id: str | None
    kind: str
    actor: str
    detail: str
    order_number: int | None = Field(description="Of an order to a robot; else null.")
    acknowledged_at: datetime | None = Field(description="When its robot first answered.")
    standing_at: datetime | None = Field(description="When its arm was reported at rest.")


class EventHistory(BaseModel):
    """Events, newest first; ask for those `before` the last id to read on."""

    events: list[EventRecord]


def _goal_info(index: int, goal: Any) -> GoalInfo:
    image, rules = goal.images[0], goal.rules
    return GoalInfo(
        index=index,
        name=rules.name,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        images=len(goal.images),
        max_steps=rules.max_steps,
        energy_threshold=rules.energy_threshold,
        region=list(rules.region) if rules.region else None,
        has_mask=goal.mask is not None,
    )


def _plan_fields(planned: Planned) -> dict[str, Any]:
    plan = planned.plan
    return {
        "actions": plan.actions.tolist(),
        "predicted_states": plan.predicted_states.tolist(),
        "energy": plan.energy,
        "energy_now": plan.energy_now,
        "energy_do_nothing": plan.energy_do_nothing,
        "energy_per_iteration": [
            value if abs(value) < float("inf") else None for value in plan.energy_per_iteration
        ],
        "evaluations": plan.evaluations,
        "stop_reason": plan.stop_reason,
        "encode_ms": planned.encode_ms,
        "plan_ms": planned.plan_ms,
        "queue_ms": planned.queue_ms,
        "warnings": list(planned.warnings),
    }
