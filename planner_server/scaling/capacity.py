"""How many replicas do so many robots need? A discrete simulation of observations, batches and deadlines.

Every robot looks once per control period, with jitter, and belongs to one replica. A replica plans for up to
`max_batch` robots at a time, the most urgent first; a batch takes a fixed time and some more for every robot in it,
which are the two numbers to measure on the device in question. A newer observation takes the place of one that
waits, as in the service itself. Knows no model and no network.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_JITTER = 0.1  # of the control period, standard deviation of an observation's arrival
_NOISE = 0.05  # relative standard deviation of a batch's duration
_WARM_UP = 0.2  # of the simulated time, that is not counted
_FULL_RATE = 0.999  # share of the observations that must be planned


@dataclass(frozen=True)
class Load:
    """What is asked of the service.

    Attributes:
        robots: How many.
        period_s: Time between a robot's observations [s].
        deadline_s: Time within which an answer is of use [s].
    """

    robots: int
    period_s: float
    deadline_s: float


@dataclass(frozen=True)
class Replica:
    """What one device can do.

    Attributes:
        fixed_s: Time of a batch of any size [s].
        per_robot_s: Further time for every robot in it [s].
        max_batch: Robots in a batch at most.
    """

    fixed_s: float
    per_robot_s: float
    max_batch: int

    def batch_s(self, robots: int) -> float:
        """Return how long a batch takes [s]."""
        return self.fixed_s + self.per_robot_s * robots

    def robots_per_s(self) -> float:
        """Return how many plans a replica makes in a second, in full batches."""
        return self.max_batch / self.batch_s(self.max_batch)


@dataclass(frozen=True)
class Outcome:
    """What came of a simulation.

    Attributes:
        replicas: How many there were.
        p50_s: Median time from observation to plan [s].
        p99_s: 99th percentile of it [s].
        late: Share of the plans that came after the deadline.
        planned: Share of the observations that were planned; the others were overtaken by newer ones.
        mean_batch: Robots per batch.
        utilisation: Share of the time that the replicas were busy.
    """

    replicas: int
    p50_s: float
    p99_s: float
    late: float
    planned: float
    mean_batch: float
    utilisation: float

    def is_enough(self, load: Load) -> bool:
        """Whether 99 of 100 plans are in time and next to no observation is lost."""
        return self.p99_s <= load.deadline_s and self.planned >= _FULL_RATE


def simulate(load: Load, replica: Replica, replicas: int, duration_s: float, seed: int) -> Outcome:
    """Simulate a load on a number of replicas, every robot on the one that its session's name falls to."""
    rng = np.random.default_rng(seed)
    shares = np.bincount(_ring(load.robots, replicas), minlength=replicas)
    runs = [_simulate_one(int(n), load, replica, duration_s, rng) for n in shares if n]
    latencies = np.concatenate([run.latencies_s for run in runs])
    observed = sum(run.observed for run in runs)
    batches = sum(run.batches for run in runs)
    if not len(latencies):
        return Outcome(replicas, math.inf, math.inf, 1.0, 0.0, 0.0, 1.0)
    return Outcome(
        replicas=replicas,
        p50_s=float(np.percentile(latencies, 50)),
        p99_s=float(np.percentile(latencies, 99)),
        late=float((latencies > load.deadline_s).mean()),
        planned=len(latencies) / max(observed, 1),
        mean_batch=len(latencies) / max(batches, 1),
        utilisation=sum(run.busy_s for run in runs) / (replicas * duration_s * (1 - _WARM_UP)),
    )


def replicas_needed(
    load: Load, replica: Replica, duration_s: float, seed: int
) -> tuple[list[Outcome], int | None]:
    """Return what was tried, and the smallest number of replicas that is enough; None where no number is."""
    if replica.batch_s(1) > load.deadline_s:
        return [simulate(load, replica, load.robots, duration_s, seed)], None
    lowest = max(1, math.ceil(load.robots / load.period_s / replica.robots_per_s()))
    tried: dict[int, Outcome] = {}

    def is_enough(count: int) -> bool:
        if count not in tried:
            tried[count] = simulate(load, replica, count, duration_s, seed)
        return tried[count].is_enough(load)

    needed = _smallest(is_enough, lowest, load.robots)
    return [tried[count] for count in sorted(tried)], needed


def simulate_from_options(options: argparse.Namespace) -> str:
    """Run what the command line asks for, and return a table."""
    deadline_s = options.period_s if options.deadline_ms is None else 1e-3 * options.deadline_ms
    load = Load(options.robots, options.period_s, deadline_s)
    replica = Replica(1e-3 * options.fixed_ms, 1e-3 * options.per_robot_ms, options.max_batch)
    tried, needed = replicas_needed(load, replica, options.duration_s, options.seed)
    lines = [
        f"{load.robots} robots, one observation every {load.period_s:g} s, answers due within {1e3 * deadline_s:g} ms",
        f"a batch takes {options.fixed_ms:g} ms and {options.per_robot_ms:g} ms per robot; at most {replica.max_batch}",
        f"one replica: {replica.robots_per_s():.1f} plans per second in full batches",
        "",
        "replicas   p50 ms   p99 ms   late    planned   robots/batch   busy",
    ]
    lines += [
        f"{each.replicas:8d} {1e3 * each.p50_s:8.0f} {1e3 * each.p99_s:8.0f} {each.late:6.1%} {each.planned:9.1%} "
        f"{each.mean_batch:14.1f} {each.utilisation:6.0%}"
        for each in tried
    ]
    if needed is None:
        lines.append(
            "no number of replicas is enough: a single plan takes longer than the deadline"
        )
    else:
        lines.append(f"replicas needed: {needed} ({load.robots / needed:.1f} robots each)")
    return "\n".join(lines)


@dataclass
class _Run:
    latencies_s: NDArray[np.float64]
    observed: int
    batches: int
    busy_s: float


def _simulate_one(
    robots: int, load: Load, replica: Replica, duration_s: float, rng: np.random.Generator
) -> _Run:
    """Simulate one replica with its robots."""
    times, names = _arrivals(robots, load, duration_s, rng)
    since_s, end_s = _WARM_UP * duration_s, duration_s
    waiting: dict[
        int, tuple[float, float]
    ] = {}  # robot: (since when it has its turn, newest observation)
    latencies: list[float] = []
    now, index, batches, busy_s = 0.0, 0, 0, 0.0
    while index < len(times) or waiting:
        if not waiting:
            now = max(now, times[index])
        while index < len(times) and times[index] <= now:
            turn = waiting.get(names[index], (times[index], 0.0))[0]
            waiting[names[index]] = (turn, times[index])
            index += 1
        chosen = sorted(waiting, key=waiting.__getitem__)[: replica.max_batch]
        took_s = replica.batch_s(len(chosen)) * max(0.1, 1 + _NOISE * rng.standard_normal())
        now += took_s
        batches += now > since_s
        busy_s += max(0.0, min(now, end_s) - max(now - took_s, since_s))
        for name in chosen:
            _, seen = waiting.pop(name)
            if seen >= since_s:
                latencies.append(now - seen)
    return _Run(np.array(latencies), int((np.array(times) >= since_s).sum()), batches, busy_s)


def _arrivals(
    robots: int, load: Load, duration_s: float, rng: np.random.Generator
) -> tuple[list[float], list[int]]:
    """Return the times of all observations in order, and whose they are."""
    looks = max(1, int(duration_s / load.period_s))
    phases = rng.random(robots)[:, None] * load.period_s
    jitter = _JITTER * load.period_s * rng.standard_normal((robots, looks))
    times = (np.arange(looks) * load.period_s + phases + jitter).clip(0).ravel()
    order = np.argsort(times, kind="stable")
    return times[order].tolist(), (order // looks).tolist()


def _ring(robots: int, replicas: int) -> NDArray[np.int64]:
    """Return the replica of every robot: fewest robots first, which is how affinity settles new sessions."""
    return np.arange(robots) % replicas


def _smallest(is_enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """Return the smallest number from `low` to `most` that is enough, if more never hurts."""
    high = low
    while not is_enough(high):
        if high >= most:
            return None
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
