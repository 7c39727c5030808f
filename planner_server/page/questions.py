"""JSON that the page asks with and is answered: metres, radians (extrinsic xyz Euler), closedness 0 (open) to 1."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner_server.questions import Axis
from robot_client.protocol import MAX_GOALS

_Number = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
_Action = Annotated[list[_Number], Field(min_length=7, max_length=7)]


class WhoAmI(BaseModel):
    """Who asks, and what they may do here."""

    name: str = Field(examples=["anna"])
    role: Literal["observe", "plan", "operate"]
    is_open: bool = Field(description="Whether the server has no tokens and lets everybody in.")
    has_decoder: bool = Field(description="Whether what is imagined can be drawn.")


class MomentJson(BaseModel):
    """Which moment of a session is asked about."""

    model_config = ConfigDict(extra="forbid")

    seq: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Observation: the newest, or the one asked about last; null: the newest.",
    )
    goal_index: int | None = Field(
        default=None, ge=0, lt=MAX_GOALS, description="null: the goal that was planned for."
    )


class ImagineJson(MomentJson):
    """What would come of these actions, from a session's newest frame on?"""

    actions: list[_Action] | None = Field(
        default=None, min_length=1, max_length=16, description="null: those of the newest plan."
    )


class ImagineAnswer(BaseModel):
    """What the model expects, and where the energy comes from."""

    seq: int = Field(description="The observation that it begins with.")
    goal_index: int
    actions: list[list[float]]
    states: list[list[float]] = Field(description="Predicted pose after each action.")
    energy: float
    energy_now: float
    energy_do_nothing: float
    heat_now: list[list[float]] = Field(description="Per patch: |observed - goal|, rows first.")
    heat_steps: list[list[list[float]]] = Field(description="The same after each action.")
    mask: list[list[bool]] | None = Field(description="Which patches count; null: all.")
    pictures: list[str] | None = Field(
        description="PNG files in base64, drawn from tokens: the frame, the goal, then after each action; "
        "null where no decoder is loaded."
    )


class SliceJson(MomentJson):
    """A slice of the energy around a session's newest frame."""

    axes: list[Axis] = Field(min_length=1, max_length=3)
    around: _Action = Field(
        default=[0.0] * 7, description="The action's values along the other axes."
    )


class SliceAnswer(BaseModel):
    """Energies over a grid; the last axis changes fastest."""

    seq: int
    goal_index: int
    axes: list[str]
    values: list[list[float]] = Field(description="Per axis.")
    energies: list[float]
    best_action: list[float]
    best_energy: float
    planned_action: list[float] = Field(description="What was planned from this frame.")
    energy_now: float
    energy_do_nothing: float
