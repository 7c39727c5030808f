"""Episodes in numbers: shares with Wilson intervals, distances, steps, plan times, failures."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulation.evaluation.conditions import Condition
from simulation.evaluation.jobs import Kind, Record

_Z_95 = 1.959964
THRESHOLDS_M = (0.02, 0.03, 0.04)


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
class Row:
    """The episodes of one method, condition and kind in numbers.

    Attributes:
        success: By the physics' verdict.
        under_m: Shares of episodes whose flange ended nearer to the last goal's than a distance [m].
        final_m: Median and 90th percentile of that distance.
        plan_ms: Median and 90th percentile of the time of a plan; None where nothing is reported.
        failures: Kinds of failure and how often.
        energies: Median energy of the frames by step, of the successes and of the failures.
    """

    method: str
    condition: Condition
    kind: Kind
    success: Share
    under_m: dict[str, Share]
    start_m: float
    final_m: tuple[float, float]
    steps: float
    plan_ms: tuple[float, float] | None
    failures: dict[str, int]
    energies: dict[str, list[float]]


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


def summarise(records: Sequence[Record]) -> list[Row]:
    """Return a row per method, condition and kind, and one over all objects of a task where there are several."""
    groups: dict[tuple[str, Condition, Kind], list[Record]] = {}
    for record in records:
        job = record.job
        groups.setdefault((job.method, job.condition, job.kind), []).append(record)
        if job.kind.object_kind is not None:
            over_all = dataclasses.replace(job.kind, object_kind=None)
            groups.setdefault((job.method, job.condition, over_all), []).append(record)
    return [condense(*key, group) for key, group in groups.items()]


def condense(method: str, condition: Condition, kind: Kind, records: Sequence[Record]) -> Row:
    """Condense episodes of one kind.

    Raises:
        ValueError: There is no episode.
    """
    results = [record.result for record in records]
    total = len(results)
    final_m = np.array([result.final_distance_m for result in results])
    plan_ms = [
        step.numbers["plan_ms"]
        for result in results
        for step in result.steps
        if "plan_ms" in step.numbers
    ]
    failures = Counter(result.failure for result in results if result.failure is not None)
    return Row(
        method=method,
        condition=condition,
        kind=kind,
        success=wilson(sum(result.verdict.is_success for result in results), total),
        under_m={
            f"{limit_m:g}": wilson(int((final_m < limit_m).sum()), total)
            for limit_m in THRESHOLDS_M
        },
        start_m=float(np.median([result.start_distance_m for result in results])),
        final_m=_quantiles(final_m),
        steps=float(np.mean([len(result.steps) for result in results])),
        plan_ms=_quantiles(np.array(plan_ms)) if plan_ms else None,
        failures=dict(failures.most_common()),
        energies={
            name: _median_curve(
                [
                    [step.numbers["energy_now"] for step in result.steps]
                    for result in results
                    if result.verdict.is_success == is_success
                    and all("energy_now" in step.numbers for step in result.steps)
                ]
            )
            for name, is_success in (("success", True), ("failure", False))
        },
    )


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON values."""
    return dataclasses.asdict(row)


def from_json(values: Mapping[str, Any]) -> Row:
    """Return the row that `as_json` wrote."""
    plan_ms = values["plan_ms"]
    return Row(
        method=values["method"],
        condition=values["condition"],
        kind=Kind(**values["kind"]),
        success=Share(**values["success"]),
        under_m={limit: Share(**share) for limit, share in values["under_m"].items()},
        start_m=values["start_m"],
        final_m=(values["final_m"][0], values["final_m"][1]),
        steps=values["steps"],
        plan_ms=None if plan_ms is None else (plan_ms[0], plan_ms[1]),
        failures=values["failures"],
        energies=values["energies"],
    )


def _quantiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    return float(np.median(values)), float(np.percentile(values, 90))


def _median_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the median by step of curves of different lengths, as long as half of them last."""
    curves = [curve for curve in curves if curve]
    if not curves:
        return []
    longest = int(np.median([len(curve) for curve in curves]))
    return [
        float(np.median([curve[step] for curve in curves if len(curve) > step]))
        for step in range(longest)
    ]
