"""JSON of the HTTP API: metres, radians (extrinsic xyz Euler), gripper closedness 0 (open) to 1 (closed)."""

from __future__ import annotations

from pydantic import BaseModel, Field

from planner_server.plan_request import Planned
from planner_server.planning import StopReason
from planner_server.sessions import PlanOptions, Session

EXAMPLE_STATE = [0.58, -0.002, 0.2476, -3.067, 0.031, -1.913, 0.0]


class Health(BaseModel):
    """The process runs, or is ready to plan."""

    status: str = Field(examples=["ok"])


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


class ModelCard(BaseModel):
    """What is served and what it expects."""

    name: str = Field(examples=["shipped"])
    frame_size: tuple[int, int] = Field(
        description="Height and width the model sees [px]; frames of other sizes are cropped and resized.",
        examples=[[128, 128]],
    )
    control_period_s: float = Field(description="Time one action takes [s].", examples=[1.0])
    action_limits: Limits
    planners: list[str] = Field(examples=[["icem", "cem"]])
    default_planner: str = Field(examples=["icem"])
    horizon: int = Field(description="Actions per plan.", examples=[1])
    zmq_endpoint: str = Field(examples=["tcp://127.0.0.1:5555"])
    parameters: int = Field(description="Weights of encoder and predictor together.")
    device: str = Field(examples=["cpu"])
    precision: str = Field(description="float32 or bfloat16, of the search's matrix products.")


class GoalInfo(BaseModel):
    """One goal image, as stored."""

    index: int
    sha256: str = Field(
        description="Of the decoded pixels: the same image again is not encoded again."
    )
    width: int
    height: int


class Goals(BaseModel):
    """A session's goals in the order of the task."""

    goals: list[GoalInfo]

    @classmethod
    def of(cls, session: Session) -> Goals:
        """Describe a session's goals."""
        return cls(
            goals=[
                GoalInfo(index=index, sha256=goal.sha256, width=goal.width, height=goal.height)
                for index, goal in enumerate(session.goals)
            ]
        )


class SessionInfo(Goals):
    """One robot's conversation with the planner."""

    id: str
    planner: str
    options: PlanOptions
    action_limits: Limits
    idle_s: float = Field(description="Time since the session was last used [s].")
    observations: int = Field(description="Observations received.")
    plans: int = Field(description="Plans made.")
    dropped: int = Field(description="Observations that a newer one overtook.")
    errors: int = Field(description="Observations answered with an error.")


class SessionList(BaseModel):
    """The open sessions, oldest first."""

    sessions: list[SessionInfo]


class PlanJson(PlanOptions):
    """A single plan asked for in JSON; images are files (PNG, JPEG or WebP) in base64."""

    frame: str = Field(description="The current camera image, base64.")
    goal: str = Field(description="The goal image, base64.")
    state: list[float] = Field(
        description="Pose of the bare flange in the robot's base frame, 7 numbers.",
        examples=[EXAMPLE_STATE],
    )


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
    energy_per_iteration: list[float] = Field(
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
        plan = planned.plan
        return cls(
            actions=plan.actions.tolist(),
            predicted_states=plan.predicted_states.tolist(),
            energy=plan.energy,
            energy_now=plan.energy_now,
            energy_do_nothing=plan.energy_do_nothing,
            energy_per_iteration=list(plan.energy_per_iteration),
            evaluations=plan.evaluations,
            stop_reason=plan.stop_reason,
            encode_ms=planned.encode_ms,
            plan_ms=planned.plan_ms,
            queue_ms=planned.queue_ms,
            warnings=list(planned.warnings),
            request_id=request_id,
        )
