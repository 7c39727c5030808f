"""One episode in closed loop: the policy acts, the physics moves, the truth is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulation.evaluation.failures import SubGoalEnd, name_failure
from simulation.evaluation.policy import Policy, Telling
from simulation.evaluation.schedules import Schedule, Watch
from simulation.stepper import OfflineWorkcell
from simulation.tasks import SubGoal, Task
from simulation.verdicts import Verdict, judge

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One action.

    Attributes:
        goal_index: Sub-goal that it was for.
        action: What was carried out `[7]`.
        distance_m: Flange to the sub-goal's flange position afterwards.
        numbers: What the policy said about it.
    """

    goal_index: int
    action: tuple[float, ...]
    distance_m: float
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode.

    Attributes:
        start_distance_m: Flange to the first goal's flange position at the start.
        steps: Every action, in order.
        ends: How every sub-goal ended.
        verdict: Of the task, at the end.
        failure: What went wrong, as a kind; None for a success.
    """

    start_distance_m: float
    steps: tuple[Step, ...]
    ends: tuple[SubGoalEnd, ...]
    verdict: Verdict
    failure: str | None

    @property
    def distances_m(self) -> tuple[float, ...]:
        """Flange to the current goal's flange position after every step."""
        return tuple(step.distance_m for step in self.steps)

    @property
    def final_distance_m(self) -> float:
        """Flange to the last goal's flange position at the end."""
        return self.ends[-1].distance_m


def run_episode(
    task: Task,
    policy: Policy,
    schedule: Schedule | None = None,
    control_period_s: float = 1.0,
    workcell: OfflineWorkcell | None = None,
) -> EpisodeResult:
    """Let `policy` work on `task`.

    Args:
        task: The task.
        policy: What drives; it is shown frames, states and goal images.
        schedule: When sub-goals end; the task's own budgets by default.
        control_period_s: Time of one action [s].
        workcell: Where it happens; a new one of the task's variation by default. Policies that are
            given the simulator share theirs.
    """
    schedule = schedule or Schedule()
    workcell = workcell or OfflineWorkcell(task.variation)
    workcell.reset(task.start)
    start_distance_m = _distance(workcell, task.sub_goals[0])
    policy.begin([sub_goal.image for sub_goal in task.sub_goals])
    steps: list[Step] = []
    ends: list[SubGoalEnd] = []
    for goal_index, sub_goal in enumerate(task.sub_goals):
        budget = schedule.budget(goal_index, len(task.sub_goals), sub_goal.step_budget)
        watch, used = Watch(schedule.trigger), 0
        while used < budget:
            action = policy.act(workcell.render(), workcell.state(), goal_index)
            numbers = dict(policy.numbers) if isinstance(policy, Telling) else {}
            if watch.is_over(action, numbers, _distance(workcell, sub_goal)):
                break
            workcell.act(action, control_period_s)
            done = tuple(float(value) for value in action)
            steps.append(Step(goal_index, done, _distance(workcell, sub_goal), numbers))
            used += 1
        ends.append(_end(workcell, sub_goal, used, schedule))
    verdict = judge(task, workcell.truth())
    failure = None if verdict.is_success else name_failure(task, ends, workcell.truth())
    return EpisodeResult(start_distance_m, tuple(steps), tuple(ends), verdict, failure)


def apply_gripper_rule(workcell: OfflineWorkcell, sub_goal: SubGoal) -> None:
    """Close with force or open, in place, as the sub-goal asks for at its end."""
    if sub_goal.gripper_rule is not None:
        target = workcell.state()
        target[6] = 1.0 if sub_goal.gripper_rule == "close" else 0.0
        workcell.move(target)


def _end(
    workcell: OfflineWorkcell, sub_goal: SubGoal, steps: int, schedule: Schedule
) -> SubGoalEnd:
    """Note where the sub-goal ended, then move the gripper as its rule says."""
    offset = workcell.state()[:3] - sub_goal.pose[:3]
    held_before = workcell.truth().is_held
    if schedule.has_gripper_rule:
        apply_gripper_rule(workcell, sub_goal)
    return SubGoalEnd(
        steps=steps,
        distance_m=float(np.linalg.norm(offset)),
        offset_m=tuple(float(value) for value in offset),
        held_before=held_before,
        held_after=workcell.truth().is_held,
    )


def _distance(workcell: OfflineWorkcell, sub_goal: SubGoal) -> float:
    return float(np.linalg.norm(workcell.state()[:3] - sub_goal.pose[:3]))
