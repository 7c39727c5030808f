"""The limits of one robot cell; YAML in a task file, every field with a unit and a default."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

Corner = tuple[float, float, float]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Box(BaseModel):
    """A box in the base frame, its sides along the axes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """For people, e.g. "camera stand"."""
    low_m: Corner
    """Lowest x, y, z [m]."""
    high_m: Corner
    """Highest x, y, z [m]."""

    @model_validator(mode="after")
    def _is_box(self) -> Self:
        _check_box(self.name, self.low_m, self.high_m)
        return self


class SafetyLimits(BaseModel):
    """Limits of one task or robot cell; every field has a default that fits the demo's table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    workspace_low_m: Corner = (0.25, -0.45, 0.10)
    """Lowest x, y, z of the flange in the base frame [m]."""
    workspace_high_m: Corner = (0.75, 0.45, 0.75)
    """Highest x, y, z of the flange in the base frame [m]."""
    fingertip_depth_m: Annotated[float, Field(gt=0, le=0.5)] = 0.1124
    """From the flange to the fingertips along the flange's z axis [m]; this is the Franka Hand's."""
    fingertip_box: Box | None = None
    """Where the fingertips may be, besides the workspace of the flange; None: anywhere."""
    keep_out: Annotated[tuple[Box, ...], Field(max_length=32)] = ()
    """Boxes that nothing between flange and fingertips may enter or pass through."""
    keep_out_margin_m: Annotated[float, Field(ge=0.0, le=0.5)] = 0.02
    """Added to every keep-out box on every side [m]: the hand is wider than its middle line."""
    min_fingertip_z_m: float = 0.005
    """Lowest height of the fingertips over the base plane [m]; the table's top belongs here."""
    max_step_m: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    """Largest displacement per axis and control period [m]."""
    max_rotation_rad: Annotated[float, Field(ge=0, le=1.0)] = 0.2
    """Largest rotation about any axis per control period [rad]."""
    max_speed_m_s: Annotated[float, Field(gt=0, le=2.0)] = 0.5
    """Largest mean speed of the flange over one control period [m/s]; the arm caps the peak."""
    max_rotation_speed_rad_s: Annotated[float, Field(gt=0, le=3.0)] = 1.0
    """Largest mean angular speed over one control period [rad/s]."""
    joint_limits: Literal["fr3", "fer"] = "fr3"
    """Whose joint limits: Franka Research 3 or Franka Emika Robot (Panda)."""
    joint_margin_rad: Annotated[float, Field(ge=0.0, le=1.0)] | None = 0.05
    """Distance to keep from every joint limit [rad]; None: not checked. Needs an arm with joints."""
    min_singular_value: Annotated[float, Field(ge=0.0, le=0.5)] | None = 0.03
    """Smallest singular value of the Jacobian (m/rad, rad/rad) to keep; None: not checked."""
    max_open_height_m: Annotated[float, Field(ge=0.0)] | None = None
    """Highest fingertips at which a hand that holds something may open [m]; None: anywhere."""
    max_observation_age_s: _Positive = 10.0
    """Oldest observation a plan may rest on [s]; the arm stands still while it waits."""
    max_drift_m: Annotated[float, Field(gt=0, le=0.1)] = 0.02
    """How far the flange may have moved since the observation [m]: pushed by hand, or not at rest."""
    max_deviation_m: Annotated[float, Field(gt=0, le=0.5)] = 0.08
    """Farthest a moving flange may be from the straight line to its target [m]; then the run ends."""
    max_miss_m: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """A motion that ends farther from its target than this counts as cut short [m]."""
    max_miss_rad: Annotated[float, Field(gt=0, le=3.2)] = 0.1
    """The same for the angle that is left [rad]."""
    max_energy_rises: Annotated[int, Field(ge=2)] | None = 8
    """So many plans in a row with the energy of the observed frame rising end the attempt."""
    max_surprise: _Positive | None = None
    """Largest distance of observed from predicted tokens that is followed; None: not checked."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_box("workspace", self.workspace_low_m, self.workspace_high_m)
        if not np.isfinite(self.min_fingertip_z_m):
            raise ValueError("min_fingertip_z_m must be finite")
        return self


def _check_box(name: str, low_m: Corner, high_m: Corner) -> None:
    low, high = np.array(low_m), np.array(high_m)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(f"the {name} must be finite, not {low_m} to {high_m}")
    if not (low < high).all():
        raise ValueError(f"the {name}'s low corner {low_m} must lie below its high one {high_m}")
