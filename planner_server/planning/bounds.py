"""Which actions are allowed: a box per axis, a ball, a workspace, and rules for the gripper.

Axes of an action: dx, dy, dz [m], roll, pitch, yaw [rad] of `R_next R_prev^T`, change of closedness. An axis whose two
limits are equal is not searched. Rotations are searched on all three axes, on yaw alone, or not at all, according to
which of their limits differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner_server.planning.errors import BoundsError

AXES = ("dx", "dy", "dz", "roll", "pitch", "yaw", "gripper")
ACTION_DIM = len(AXES)
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 6)
YAW = 5
GRIPPER = 6
_LARGEST_LIMIT = 10.0


@dataclass(frozen=True)
class Workspace:
    """Box that predicted flange positions stay in, in the base frame.

    Where the flange starts outside, an action may bring it nearer and never further away.

    Attributes:
        low_m: Smallest x, y, z [m].
        high_m: Largest x, y, z [m].
    """

    low_m: tuple[float, float, float]
    high_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.low_m) != 3 or len(self.high_m) != 3:
            raise BoundsError(f"a workspace has 3 + 3 numbers, got {self.low_m} and {self.high_m}")
        if not all(a <= b for a, b in zip(self.low_m, self.high_m, strict=True)):  # NaN fails too
            raise BoundsError(
                f"the workspace {self.low_m} to {self.high_m} is empty; every low_m must be at most its high_m"
            )


@dataclass(frozen=True)
class GripperRule:
    """What the gripper may do beyond its two limits.

    Attributes:
        dead_zone: Changes of closedness smaller than this become zero.
        close_from: First step of the horizon at which it closes as far as its limit allows; None leaves it free.
        open_from: First step of the horizon at which it opens as far as its limit allows; None leaves it free.
    """

    dead_zone: float = 0.0
    close_from: int | None = None
    open_from: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone <= 1:
            raise BoundsError(f"dead_zone must be in [0, 1], got {self.dead_zone}")
        if self.close_from is not None and self.open_from is not None:
            raise BoundsError("the gripper cannot both close_from and open_from; give one of them")
        if min(self.close_from or 0, self.open_from or 0) < 0:
            raise BoundsError(f"close_from and open_from count from 0, got {self}")


@dataclass(frozen=True)
class ActionBounds:
    """The set of allowed action sequences.

    Attributes:
        low: Smallest action per axis, in the order of `AXES` [m, rad, closedness].
        high: Largest action per axis; equal to `low` where the axis is fixed.
        l1_radius_m: Largest |dx| + |dy| + |dz| of one action [m], the paper's constraint; None is no limit.
        workspace: Box that predicted positions stay in; None is no limit.
        gripper: Rules of the gripper.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    l1_radius_m: float | None = None
    workspace: Workspace | None = None
    gripper: GripperRule = field(default_factory=GripperRule)

    def __post_init__(self) -> None:
        if len(self.low) != ACTION_DIM or len(self.high) != ACTION_DIM:
            raise BoundsError(f"bounds have 7 + 7 numbers, got {self.low} and {self.high}")
        for axis, low, high in zip(AXES, self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise BoundsError(f"{axis} has limits [{low}, {high}]; low must be at most high")
            if max(abs(low), abs(high)) >= _LARGEST_LIMIT:
                raise BoundsError(
                    f"{axis} has limits [{low}, {high}]; magnitudes must be below {_LARGEST_LIMIT:g}"
                )
        if self.l1_radius_m is not None:
            self._check_ball(self.l1_radius_m)

    @classmethod
    def symmetric(
        cls,
        max_step: Sequence[float],
        *,
        l1_radius_m: float | None = None,
        workspace: Workspace | None = None,
        gripper: GripperRule | None = None,
    ) -> ActionBounds:
        """Return bounds of +-`max_step` `[7]`; an axis with 0 keeps still."""
        steps = tuple(float(step) for step in max_step)
        return cls(
            tuple(-step for step in steps),
            steps,
            l1_radius_m,
            workspace,
            gripper or GripperRule(),
        )

    def limits(self, horizon: int) -> tuple[list[list[float]], list[list[float]]]:
        """Return the smallest and largest action of every step, `[H][7]` each, gripper rules applied."""
        low = [list(self.low) for _ in range(horizon)]
        high = [list(self.high) for _ in range(horizon)]
        for step in range(horizon):
            if self.gripper.close_from is not None and step >= self.gripper.close_from:
                low[step][GRIPPER] = high[step][GRIPPER]
            if self.gripper.open_from is not None and step >= self.gripper.open_from:
                high[step][GRIPPER] = low[step][GRIPPER]
        return low, high

    def _check_ball(self, radius_m: float) -> None:
        nearest = sum(
            max(low, -high, 0.0)
            for low, high in zip(self.low[TRANSLATION], self.high[TRANSLATION], strict=True)
        )
        if not (math.isfinite(radius_m) and radius_m >= nearest):
            raise BoundsError(
                f"l1_radius_m is {radius_m} but the box begins at a distance of {nearest:g} m; "
                "enlarge the ball or move the box towards zero"
            )
