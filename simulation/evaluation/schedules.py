"""When a sub-goal ends and the next begins, and what then happens to the gripper.

Budgets of steps are the published way (arXiv 2506.09985, section 4.2: 4, 10 and 4); triggers end
a sub-goal earlier, from what the policy itself says, or, to find out what timing costs, from the
truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidTaskError

Array = NDArray[np.float64]
Trigger = Literal["budget", "settled", "energy", "truth"]

SETTLED_STEP_M = 0.012  # as the robot's client counts an arrival
SETTLED_PLANS = 2
ENERGY_GAIN = 0.03
ENERGY_PLANS = 2
ARRIVED_M = 0.01


@dataclass(frozen=True)
class Schedule:
    """The order of a task's sub-goals in time.

    Attributes:
        budgets: Steps of the sub-goals, for tasks with as many; None: the task's own.
        trigger: What ends a sub-goal before its budget. `settled`: two plans in a row of less than
            12 mm. `energy`: the frame's energy has not fallen by 3 % below its best in two plans.
            `truth`: the flange is within 1 cm of the goal's; a policy cannot know this.
        stretch: Factor on the budgets, for triggers that wait for something.
        has_gripper_rule: Whether the gripper closes or opens at the end of a sub-goal as the task
            says; otherwise only the policy's actions move it.
    """

    budgets: tuple[int, ...] | None = None
    trigger: Trigger = "budget"
    stretch: int = 1
    has_gripper_rule: bool = True

    def budget(self, goal_index: int, sub_goals: int, own: int) -> int:
        """Return the steps that sub-goal `goal_index` of `sub_goals` may take."""
        if self.budgets is None or sub_goals == 1:  # the published schedule is of manipulation
            return own * self.stretch
        return self.budgets[goal_index] * self.stretch


class Watch:
    """Decides within one sub-goal whether it is over."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._best_energy: float | None = None
        self._count = 0

    def is_over(self, action: Array, numbers: Mapping[str, float], distance_m: float) -> bool:
        """Note a plan that has not been carried out; True where the sub-goal ends without it.

        Args:
            action: What the policy wants `[7]`.
            numbers: What it says about it; see `Telling`.
            distance_m: True distance of the flange to the goal's.

        Raises:
            InvalidTaskError: The trigger needs energies and the policy reports none.
        """
        if self._trigger == "truth":
            return distance_m < ARRIVED_M
        if self._trigger == "settled":
            return self._counted(float(np.linalg.norm(action[:3])) < SETTLED_STEP_M, SETTLED_PLANS)
        if self._trigger == "energy":
            return self._counted(self._has_stalled(numbers), ENERGY_PLANS)
        return False

    def _has_stalled(self, numbers: Mapping[str, float]) -> bool:
        if "energy_now" not in numbers:
            raise InvalidTaskError(
                "this policy reports no energy_now, which the schedule `energy` switches by; "
                "choose another schedule"
            )
        energy, best = numbers["energy_now"], self._best_energy
        self._best_energy = energy if best is None else min(best, energy)
        return best is not None and energy > (1 - ENERGY_GAIN) * best

    def _counted(self, is_so: bool, needed: int) -> bool:  # noqa: FBT001  a claim to be counted
        self._count = self._count + 1 if is_so else 0
        return self._count >= needed


PAPER = (4, 10, 4)
SCHEDULES: dict[str, Schedule] = {
    "task": Schedule(),
    "paper": Schedule(budgets=PAPER),
    "settled": Schedule(trigger="settled"),
    "energy": Schedule(trigger="energy", stretch=2),
    "truth": Schedule(trigger="truth", stretch=2),
    "planned_gripper": Schedule(has_gripper_rule=False),
}
