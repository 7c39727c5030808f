"""Closed-loop evaluation: a policy drives the offline workcell and the physics is the judge.

Knows no network: anything that turns a frame, a state and goal images into an action is a policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from simulation.stepper import OfflineWorkcell
from simulation.tasks import SubGoal, Task
from simulation.verdicts import Verdict, judge

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_Z_95 = 1.959964


class Policy(Protocol):
    """What is evaluated. It sees frames, states and goal images, and nothing of the truth."""

    def begin(self, goals: Sequence[Frame]) -> None:
        """Take the goal images of a new episode, uint8 RGB `[256, 256, 3]` each, in order."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return an action `[7]` towards goal `goal_index` from a frame and a state `[7]`."""


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode.

    Attributes:
        start_distance_m: Flange to the first goal's flange position at the start.
        distances_m: Flange to the current goal's flange position after every step.
        verdict: Of the task, at the end.
    """

    task: str
    seed: int
    start_distance_m: float
    distances_m: tuple[float, ...]
    verdict: Verdict

    @property
    def steps(self) -> int:
        """Control periods used."""
        return len(self.distances_m)

    @property
    def final_distance_m(self) -> float:
        """Flange to the last goal's flange position at the end."""
        return self.distances_m[-1]


@dataclass(frozen=True)
class Share:
    """A share of episodes with its 95 % Wilson score interval."""

    count: int
    total: int
    low: float
    high: float

    def __str__(self) -> str:
        share = 100 * self.count / self.total
        return f"{share:.0f} % [{100 * self.low:.0f}-{100 * self.high:.0f}]"


@dataclass(frozen=True)
class Summary:
    """Episodes of one kind in numbers."""

    episodes: int
    median_start_distance_m: float
    median_distance_m: float
    mean_distance_m: float
    under_2_cm: Share
    under_4_cm: Share
    success: Share
    mean_steps: float


def wilson(count: int, total: int) -> Share:
    """Return `count` of `total` with the 95 % Wilson interval.

    Raises:
        ValueError: There is no trial, or more successes than trials.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share; give 0 <= count <= total, total >= 1")
    share, z2 = count / total, _Z_95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = share * (1 - share) / total + z2 / (4 * total**2)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(spread)
    return Share(count, total, max(0.0, centre - half), min(1.0, centre + half))


def run_episode(task: Task, policy: Policy, control_period_s: float = 1.0) -> EpisodeResult:
    """Let `policy` work on `task`: each sub-goal for its step budget, then its gripper rule."""
    workcell = OfflineWorkcell(task.variation)
    workcell.reset(task.start)
    start_distance = _distance(workcell, task.sub_goals[0])
    policy.begin([sub_goal.image for sub_goal in task.sub_goals])
    distances: list[float] = []
    for goal_index, sub_goal in enumerate(task.sub_goals):
        for _ in range(sub_goal.step_budget):
            action = policy.act(workcell.render(), workcell.state(), goal_index)
            workcell.act(action, control_period_s)
            distances.append(_distance(workcell, sub_goal))
        apply_gripper_rule(workcell, sub_goal)
    verdict = judge(task, workcell.truth())
    return EpisodeResult(task.name, task.seed, start_distance, tuple(distances), verdict)


def apply_gripper_rule(workcell: OfflineWorkcell, sub_goal: SubGoal) -> None:
    """Close with force or open, in place, as the sub-goal asks for at its end."""
    if sub_goal.gripper_rule is not None:
        target = workcell.state()
        target[6] = 1.0 if sub_goal.gripper_rule == "close" else 0.0
        workcell.move(target)


def evaluate(
    tasks: Iterable[Task],
    policy: Policy,
    control_period_s: float = 1.0,
    on_result: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run one episode per task, with a progress bar; `on_result` is told of each as it ends."""
    results = []
    for task in track(list(tasks), description="episodes"):
        result = run_episode(task, policy, control_period_s)
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def summarise(results: Sequence[EpisodeResult]) -> Summary:
    """Condense episodes of one kind.

    Raises:
        ValueError: There is no episode.
    """
    if not results:
        raise ValueError("no episode to summarise; run at least one")
    final = np.array([result.final_distance_m for result in results])
    total = len(results)
    return Summary(
        episodes=total,
        median_start_distance_m=float(np.median([result.start_distance_m for result in results])),
        median_distance_m=float(np.median(final)),
        mean_distance_m=float(final.mean()),
        under_2_cm=wilson(int((final < 0.02).sum()), total),
        under_4_cm=wilson(int((final < 0.04).sum()), total),
        success=wilson(sum(result.verdict.is_success for result in results), total),
        mean_steps=float(np.mean([result.steps for result in results])),
    )


def _distance(workcell: OfflineWorkcell, sub_goal: SubGoal) -> float:
    return float(np.linalg.norm(workcell.state()[:3] - sub_goal.pose[:3]))
