"""Two results over the same steps, compared in pairs: what differs between episodes cancels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.errors import ReplayError
from trajectories.replay.metrics import action_score
from trajectories.replay.results import PLAN, PlannerCard, ReplayResult, StepResult
from trajectories.replay.statistics import PairedEstimate, compare
from trajectories.replay.summary import policy_values, step_values

Array = NDArray[np.float64]

ENERGY_METRICS = ("energy",)
_SAME_MOTION = 1e-6


@dataclass(frozen=True)
class Row:
    """One metric.

    Attributes:
        metric: Its name.
        first: Mean of A over the common steps.
        second: Mean of B.
        paired: B minus A.
    """

    metric: str
    first: float
    second: float
    paired: PairedEstimate


@dataclass(frozen=True)
class Comparison:
    """B against A.

    Attributes:
        first: A.
        second: B.
        rows: The metrics; the action score is not among them because it is no mean over steps.
        scores: Action scores of A and B over the common steps.
        steps: Common steps.
        episodes: Common episodes.
        left_out: Steps that only one of them has.
        differences: Per episode: its name and the mean of B minus A of the end distance [m].
    """

    first: PlannerCard
    second: PlannerCard
    rows: tuple[Row, ...]
    scores: tuple[float, float]
    steps: int
    episodes: int
    left_out: int
    differences: tuple[tuple[str, float], ...]


_POLICY_METRICS = (
    "end_distance_xyz_m",
    "distance_m",
    "rotation_rad",
    "end_distance_closure",
    "direction_cosine",
    "energy",
)
_STEP_METRICS = ("rank_of_recorded", "surprise", "plan_ms")


def compare_results(first: ReplayResult, second: ReplayResult) -> Comparison:
    """Pair the full steps of two results.

    Raises:
        ReplayError: They asked different questions, or have no step in common.
    """
    _check_questions(first, second)
    ours = {_key(step): step for step in first.full_steps()}
    theirs = {_key(step): step for step in second.full_steps()}
    common = sorted(set(ours) & set(theirs))
    if not common:
        raise ReplayError(
            f"{first.planner.label} ({len(ours)} steps) and {second.planner.label} ({len(theirs)} steps) have no step "
            "in common; replay both on the same paths with the same --goal-steps, --every, --draws and --seed"
        )
    pairs = [ours[key] for key in common], [theirs[key] for key in common]
    _check_motion(*pairs)
    names = [step.episode for step in pairs[0]]
    distances = [policy_values(steps, PLAN, "end_distance_xyz_m") for steps in pairs]
    return Comparison(
        first=first.planner,
        second=second.planner,
        rows=tuple(_row(metric, read, pairs, names) for metric, read in _readers()),
        scores=(action_score(distances[0]), action_score(distances[1])),
        steps=len(common),
        episodes=len(set(names)),
        left_out=len(set(ours) ^ set(theirs)),
        differences=_by_episode(distances[1] - distances[0], names),
    )


Reader = Callable[[Sequence[StepResult]], Array]


def _readers() -> list[tuple[str, Reader]]:
    def of_policy(metric: str) -> Reader:
        return lambda steps: policy_values(steps, PLAN, metric)

    def of_step(metric: str) -> Reader:
        return lambda steps: step_values(steps, metric)

    return [(metric, of_policy(metric)) for metric in _POLICY_METRICS] + [
        (metric, of_step(metric)) for metric in _STEP_METRICS
    ]


def _row(
    metric: str,
    read: Reader,
    pairs: tuple[list[StepResult], list[StepResult]],
    names: Sequence[str],
) -> Row:
    first, second = read(pairs[0]), read(pairs[1])
    both = ~(np.isnan(first) | np.isnan(second))
    return Row(
        metric=metric,
        first=float(first[both].mean()) if both.any() else float("nan"),
        second=float(second[both].mean()) if both.any() else float("nan"),
        paired=compare(first, second, names),
    )


def _check_questions(first: ReplayResult, second: ReplayResult) -> None:
    for name, ours, theirs in (
        ("control period", first.planner.control_period_s, second.planner.control_period_s),
        ("horizon", first.planner.horizon, second.planner.horizon),
        ("goal steps", first.settings.goal_steps, second.settings.goal_steps),
        ("clock", first.settings.clock, second.settings.clock),
        ("view", first.settings.view, second.settings.view),
    ):
        if ours != theirs:
            raise ReplayError(
                f"{name}: {first.planner.label} has {ours}, {second.planner.label} has {theirs}; their steps are not "
                "the same questions"
            )


def _check_motion(first: Sequence[StepResult], second: Sequence[StepResult]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        if not np.allclose(ours.recorded, theirs.recorded, atol=_SAME_MOTION):
            raise ReplayError(
                f"{ours.episode}, step {ours.step}: the recorded motion differs between the two files; "
                "they were made from different data under the same name"
            )


def _key(step: StepResult) -> tuple[str, int, int]:
    return step.episode, step.step, step.goal_step


def _by_episode(differences: Array, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    found = np.asarray(names, dtype=np.str_)
    return tuple(
        (str(name), float(np.nanmean(differences[found == name]))) for name in np.unique(found)
    )
