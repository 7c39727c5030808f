"""From steps to the table: means over all full steps, with intervals clustered by episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.baselines import BASELINES
from trajectories.replay.metrics import action_score
from trajectories.replay.results import PLAN, EpisodeResult, PolicyStep, StepResult, Summary
from trajectories.replay.statistics import Estimate, estimate

Array = NDArray[np.float64]

OVERALL = "overall"
ACTION_SCORE = "action_score"
POLICIES = (PLAN, *BASELINES)
POLICY_METRICS = tuple(PolicyStep.model_fields)
STEP_METRICS = (
    "energy_now",
    "energy_recorded",
    "rank_of_recorded",
    "surprise",
    "surprise_of_copy",
    "encode_ms",
    "plan_ms",
    "queue_ms",
    "round_trip_ms",
    "evaluations",
)
EPISODE_METRICS = ("monotonicity", "falling_share")

Table = dict[str, dict[str, Summary]]


def summarise(steps: Sequence[StepResult], episodes: Sequence[EpisodeResult]) -> Table:
    """Return every metric's mean and interval by policy; steps whose horizon leaves the episode do not count."""
    full = [step for step in steps if not step.is_tail]
    names = [step.episode for step in full]
    table: Table = {OVERALL: {}}
    for policy in POLICIES:
        table[policy] = {
            metric: _summary(estimate(_column(full, _of_policy(policy, metric)), names))
            for metric in POLICY_METRICS
        }
        table[policy][ACTION_SCORE] = _score(table[policy]["end_distance_xyz_m"])
    for metric in STEP_METRICS:
        values = _column(full, _of_step(metric))
        table[OVERALL][metric] = _summary(estimate(values, names))
    for metric in EPISODE_METRICS:
        values = _numbers(getattr(episode, metric) for episode in episodes)
        table[OVERALL][metric] = _summary(estimate(values, [each.name for each in episodes]))
    return table


def policy_values(steps: Sequence[StepResult], policy: str, metric: str) -> Array:
    """Return one number `[S]` of a policy per step; NaN where it is not known."""
    return _column(steps, _of_policy(policy, metric))


def step_values(steps: Sequence[StepResult], metric: str) -> Array:
    """Return one number `[S]` per step; NaN where it is not known."""
    return _column(steps, _of_step(metric))


def quantiles(steps: Sequence[StepResult], metric: str) -> tuple[float, float, float]:
    """Return median, 95th percentile and largest of one of a step's numbers; NaN without steps."""
    values = step_values(steps, metric)
    if len(values) == 0:
        return (float("nan"),) * 3
    return float(np.median(values)), float(np.percentile(values, 95)), float(values.max())


def _score(distance: Summary) -> Summary:
    """Turn a mean end distance into the action score; the interval follows because the score falls with it."""

    def of(value: float | None) -> float | None:
        return None if value is None else action_score(value)

    return distance.model_copy(
        update={"mean": of(distance.mean), "low": of(distance.high), "high": of(distance.low)}
    )


def _of_policy(policy: str, metric: str) -> Callable[[StepResult], float | None]:
    def read(step: StepResult) -> float | None:
        value: float | None = getattr(step.policies[policy], metric)
        return value

    return read


def _of_step(metric: str) -> Callable[[StepResult], float | None]:
    def read(step: StepResult) -> float | None:
        value: float | None = getattr(step, metric)
        return value

    return read


def _column(steps: Sequence[StepResult], read: Callable[[StepResult], float | None]) -> Array:
    return _numbers(read(step) for step in steps)


def _numbers(values: Iterable[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _summary(found: Estimate) -> Summary:
    return Summary(
        mean=found.mean,
        low=found.low,
        high=found.high,
        steps=found.steps,
        episodes=found.episodes,
    )
