"""How a session plans: chosen when it is created, or with a single plan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from planner_server.planning import (
    ActionBounds,
    Budget,
    EnergySpec,
    GripperRule,
    Workspace,
)

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Point = tuple[_Finite, _Finite, _Finite]
_MAX_HORIZON = 16
_MAX_CONTEXT = 8


class WorkspaceBox(BaseModel):
    """Box that the predicted flange positions stay in, in the robot's base frame [m]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low_m: _Point = Field(examples=[[0.2, -0.5, 0.05]])
    high_m: _Point = Field(examples=[[0.8, 0.5, 0.7]])


class GripperOptions(BaseModel):
    """What the gripper may do beyond its limits; steps count from 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dead_zone: float = Field(default=0.0, ge=0, le=1, description="Smaller changes become zero.")
    close_from: int | None = Field(
        default=None, ge=0, le=_MAX_HORIZON, description="First step that closes it fully."
    )
    open_from: int | None = Field(
        default=None, ge=0, le=_MAX_HORIZON, description="First step that opens it fully."
    )


class EnergyOptions(BaseModel):
    """How the distance to the goal is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Literal["l1", "l2", "cosine"] = "l1"
    over: Literal["last", "all", "discounted"] = "last"
    discount: float = Field(default=0.7, gt=0, le=1, description="Weight from step to step.")
    proprio_weight: float = Field(
        default=0.0, ge=0, le=1e3, description="Of the pose error; the goals must have a `state`."
    )


class PlanOptions(BaseModel):
    """How to plan: chosen when a session is created, or with a single plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(default="", max_length=200, description="For people and records.")
    planner: str | None = Field(
        default=None, description="One of the planners of GET /v1/model; null takes the default."
    )
    search_gripper: bool = Field(
        default=True, description="Whether the gripper may be planned; false keeps it as it is."
    )
    search_rotation: Literal["none", "yaw", "all"] = Field(
        default="all", description="Rotations searched, inside the model's own limits."
    )
    max_step_m: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Largest displacement per axis and action [m]; at most the model's own.",
    )
    l1_radius_m: float | None = Field(
        default=None, gt=0, le=10, description="Largest |dx| + |dy| + |dz| of one action [m]."
    )
    workspace: WorkspaceBox | None = None
    gripper: GripperOptions = GripperOptions()
    energy: EnergyOptions = EnergyOptions()
    horizon: int | None = Field(
        default=None, ge=1, le=_MAX_HORIZON, description="Actions per plan; null: the server's."
    )
    context: int = Field(
        default=1, ge=1, le=_MAX_CONTEXT, description="Frames conditioned on, the newest included."
    )
    deadline_ms: float | None = Field(
        default=None,
        ge=1,
        le=600_000,
        description="From the arrival of an observation to its plan [ms]; null: the server's.",
    )
    max_evaluations: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Action sequences imagined at most."
    )
    plateau: float | None = Field(
        default=None, gt=0, le=1, description="Relative gain below which a search ends."
    )
    control_period_s: float | None = Field(
        default=None, ge=1e-3, le=60, description="Time per action [s]; null: the model's own."
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Seed of the search. Observation number seq is planned with seed + seq.",
    )

    @field_validator("workspace")
    @classmethod
    def _is_a_box(cls, box: WorkspaceBox | None) -> WorkspaceBox | None:
        if box is not None:
            Workspace(box.low_m, box.high_m)
        return box

    @field_validator("gripper")
    @classmethod
    def _is_a_rule(cls, rule: GripperOptions) -> GripperOptions:
        GripperRule(rule.dead_zone, rule.close_from, rule.open_from)
        return rule

    def bounds(self, max_step: tuple[float, ...]) -> ActionBounds:
        """Return the allowed actions inside a box of +-`max_step` `[7]`.

        Raises:
            PlanningError: No action would be allowed.
        """
        box = self.workspace
        return ActionBounds.symmetric(
            max_step,
            l1_radius_m=self.l1_radius_m,
            workspace=None if box is None else Workspace(box.low_m, box.high_m),
            gripper=GripperRule(
                self.gripper.dead_zone, self.gripper.close_from, self.gripper.open_from
            ),
        )

    def energy_spec(self) -> EnergySpec:
        """Return the energy that the planner minimises."""
        return EnergySpec(**self.energy.model_dump())

    def budget(self, deadline_ms: float | None) -> Budget:
        """Return what one plan may cost, with the time that is left for it [ms]."""
        return Budget(
            deadline_ms=deadline_ms, max_evaluations=self.max_evaluations, plateau=self.plateau
        )
