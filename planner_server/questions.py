"""JSON that the HTTP API is asked with: metres, radians (extrinsic xyz Euler), closedness 0 (open) to 1 (closed)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner_server.goals import MAX_IMAGES_PER_GOAL, GoalRules
from planner_server.options import EnergyOptions, PlanOptions
from robot_client.fields import MAX_COMMITTED
from robot_client.protocol import MAX_GOALS

EXAMPLE_STATE = [0.58, -0.002, 0.2476, -3.067, 0.031, -1.913, 0.0]
AXES = ("dx", "dy", "dz", "roll", "pitch", "yaw", "gripper")

_GREY_PNG = (  # 16 x 16 px: short enough to be shown
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAD0lEQVR42mNoQAMMI1sAAAUMgAHjM1mKAAAAAElFTkSuQmCC"
)
_State = Annotated[
    list[Annotated[float, Field(strict=True)]],
    Field(
        description="Pose of the bare flange in the robot's base frame: x y z [m], roll pitch yaw [rad], closedness.",
        examples=[EXAMPLE_STATE],
    ),
]
_Image = Annotated[
    str, Field(description="A PNG, JPEG or WebP file in base64.", examples=[_GREY_PNG])
]


class EpisodeFrame(BaseModel):
    """A frame of a recorded episode in the server's `episodes` folder."""

    model_config = ConfigDict(extra="forbid")

    episode: str = Field(max_length=500, examples=["2026-11-21-reach"])
    frame: int = Field(ge=-1, le=10_000_000, description="Counted from 0; -1 is the last one.")
    camera: str | None = Field(default=None, max_length=100, description="null: the first one.")


class GoalJson(GoalRules):
    """One goal of a JSON upload: 1 to 8 images of the same goal."""

    model_config = ConfigDict(extra="forbid")

    images: list[_Image | EpisodeFrame] = Field(min_length=1, max_length=MAX_IMAGES_PER_GOAL)
    mask: _Image | None = Field(
        default=None, description="Grey image of the same shape; its bright part counts."
    )


class GoalsJson(BaseModel):
    """Goals in JSON, in the order of the task."""

    model_config = ConfigDict(extra="forbid")

    goals: list[GoalJson] = Field(min_length=1, max_length=MAX_GOALS)


class GoalOfForm(GoalRules):
    """One goal of a form upload; images are counted in the order of the form's field `images`."""

    model_config = ConfigDict(extra="forbid")

    images: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, max_length=MAX_IMAGES_PER_GOAL, examples=[[0]]
    )
    mask: int | None = Field(default=None, ge=0, description="Which of `images` is the mask.")


class ObservationJson(BaseModel):
    """One look of a robot, planned in its session."""

    model_config = ConfigDict(extra="forbid")

    frame: _Image
    state: _State
    seq: int | None = Field(
        default=None, ge=0, lt=2**63, description="The robot's own count; null: the session's."
    )
    goal_index: int | None = Field(
        default=None, ge=0, lt=MAX_GOALS, description="null: the sub-goal under way."
    )
    committed: list[_State] | None = Field(
        default=None,
        max_length=MAX_COMMITTED,
        description="Actions under way, that the plan begins after.",
    )


class PlanJson(PlanOptions):
    """A single plan asked for in JSON."""

    frame: _Image
    goal: _Image
    state: _State


class EnergyJson(BaseModel):
    """How near the goal do these actions lead?"""

    model_config = ConfigDict(extra="forbid")

    frame: _Image
    goal: _Image
    state: _State
    actions: list[list[_State]] = Field(
        min_length=1, max_length=4096, description="Sequences of actions, `[S][H][7]`."
    )
    energy: EnergyOptions = EnergyOptions()


class Axis(BaseModel):
    """One axis of a landscape: `points` values from `low` to `high` [m, rad, closedness]."""

    model_config = ConfigDict(extra="forbid")

    axis: Literal["dx", "dy", "dz", "roll", "pitch", "yaw", "gripper"] = Field(examples=["dx"])
    low: float = Field(ge=-10, le=10, examples=[-0.1])
    high: float = Field(ge=-10, le=10, examples=[0.1])
    points: int = Field(ge=2, le=256, examples=[9])


class LandscapeJson(BaseModel):
    """The energy over a grid of single actions."""

    model_config = ConfigDict(extra="forbid")

    frame: _Image
    goal: _Image
    state: _State
    axes: list[Axis] = Field(min_length=1, max_length=3)
    energy: EnergyOptions = EnergyOptions()


class OrderJson(BaseModel):
    """Why a robot is paused, resumed or stopped."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500, examples=["a person is in the cell"])
