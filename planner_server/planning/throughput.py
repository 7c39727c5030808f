"""How fast a model imagines here, measured on the plans that it makes.

A batch costs a fixed time and a time per rollout: two candidates take longer than two shares of thirty-two. Both are
fitted to the newest batches by least squares.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

_FADING = 0.85  # weight of a batch relative to the one after it
_MARGIN = 0.9  # share of the remaining time that is given away
_HICCUP = 4.0  # a batch counts as this many times its expected time at most
_PROPORTIONAL = (
    0.02  # how strongly times are taken for proportional to the rollouts, where sizes hardly differ
)
_SMALLEST_SHARE = (
    0.2  # of the mean time per rollout that the time per rollout of a larger batch has at least
)
_DOUBT = 0.8  # factor on the expected times whenever they kept a search from beginning


class Work(NamedTuple):
    """What the time and the memory of a rollout depend on.

    Attributes:
        horizon: Steps, H.
        frames: Frames of context, k.
        has_gradient: Whether what the way back needs is kept.
        is_exact: Whether it is a run of the more exact model, where that is another one.
    """

    horizon: int
    frames: int = 1
    has_gradient: bool = False
    is_exact: bool = False


@dataclass(frozen=True)
class Measurement:
    """Rollouts under way: what they are, where, when they were begun and, on CUDA, the event before them."""

    work: Work
    device: torch.device
    begun_s: float
    begun: torch.cuda.Event | None = None


@dataclass
class _Cost:
    """Weighted sums over the batches of one kind of work: of 1, n, n^2, t and n t for n rollouts in t seconds."""

    batches: int = 0
    weight: float = 0.0
    rollouts: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0

    def learn(self, rollouts: int, seconds: float) -> None:
        """Take in a batch. The very first one, which warms everything up, counts until there is a second one."""
        if self.batches == 1:
            self.weight = self.rollouts = self.squares = self.seconds = self.products = 0.0
        elif self.batches:
            fixed_s, each_s = self.parts_s
            seconds = min(seconds, _HICCUP * (fixed_s + each_s * rollouts))
        self.batches += 1
        self.weight = _FADING * self.weight + 1
        self.rollouts = _FADING * self.rollouts + rollouts
        self.squares = _FADING * self.squares + rollouts**2
        self.seconds = _FADING * self.seconds + seconds
        self.products = _FADING * self.products + rollouts * seconds

    def doubt(self) -> None:
        """Expect less time than was measured."""
        self.seconds *= _DOUBT
        self.products *= _DOUBT

    @property
    def parts_s(self) -> tuple[float, float]:
        """Fixed time of a batch and time per rollout [s]."""
        rollouts, seconds = self.rollouts / self.weight, self.seconds / self.weight
        mean = seconds / rollouts
        prior = _PROPORTIONAL * rollouts**2
        covariance = self.products / self.weight - rollouts * seconds
        slope = (covariance + prior * mean) / (self.squares / self.weight - rollouts**2 + prior)
        each_s = min(max(slope, _SMALLEST_SHARE * mean), mean)
        return seconds - each_s * rollouts, each_s


class Throughput:
    """Expected times of batches, for every kind of work. Reading them never waits for a GPU."""

    def __init__(self) -> None:
        self._costs: dict[Work, _Cost] = {}
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event, Work, int]] = deque()

    def begin(self, work: Work, device: torch.device) -> Measurement:
        """Note that rollouts begin."""
        begun = _event_now(device) if device.type == "cuda" else None
        return Measurement(work, device, time.perf_counter(), begun)

    def end(self, measurement: Measurement, rollouts: int) -> None:
        """Note that they are through, or queued on the GPU."""
        if measurement.begun is None:
            self.learn(measurement.work, rollouts, time.perf_counter() - measurement.begun_s)
            return
        ended = _event_now(measurement.device)
        self._pending.append((measurement.begun, ended, measurement.work, rollouts))

    def learn(self, work: Work, rollouts: int, seconds: float) -> None:
        """Take in the time of a batch [s]."""
        self._costs.setdefault(work, _Cost()).learn(rollouts, seconds)

    def doubt(self) -> None:
        """Expect less time from now on: what kept a search from beginning cannot be measured again otherwise."""
        for cost in self._costs.values():
            cost.doubt()

    def seconds(self, work: Work, rollouts: int) -> float | None:
        """Return the time that one batch takes [s]; None: nothing was measured yet."""
        parts_s = self._parts_s(work)
        return None if parts_s is None else parts_s[0] + parts_s[1] * rollouts

    def affordable(self, work: Work, remaining_s: float) -> int | None:
        """Return how many rollouts fit into one batch of a time [s]; None: nothing was measured yet."""
        parts_s = self._parts_s(work)
        if parts_s is None:
            return None
        fixed_s, each_s = parts_s
        return max(0, int((_MARGIN * remaining_s - fixed_s) / each_s))

    def queued_s(self) -> float:
        """Return the time that what is queued on a GPU will take still, about [s]; 0 on a CPU."""
        self._collect()
        waiting = [self.seconds(work, rollouts) for _, _, work, rollouts in self._pending]
        return sum(seconds for seconds in waiting if seconds is not None)

    def _parts_s(self, work: Work) -> tuple[float, float] | None:
        self._collect()
        if not self._costs:
            return None
        # Cost grows a little faster than the horizon: what is known of the most similar work tells enough.
        nearest = min(self._costs, key=partial(_difference, work))
        fixed_s, each_s = self._costs[nearest].parts_s
        return fixed_s * work.horizon / nearest.horizon, each_s * work.horizon / nearest.horizon

    def _collect(self) -> None:
        """Read the events that have come by; leave the others."""
        while self._pending and self._pending[0][1].query():  # type: ignore[no-untyped-call]
            begun, ended, work, rollouts = self._pending.popleft()
            self.learn(work, rollouts, begun.elapsed_time(ended) / 1e3)


def _difference(work: Work, other: Work) -> tuple[bool, bool, int, int]:
    """Return how much two kinds of work differ; what changes the cost most comes first, the horizon is allowed for."""
    return (
        work.has_gradient != other.has_gradient,
        work.is_exact != other.is_exact,
        abs(work.frames - other.frames),
        abs(work.horizon - other.horizon),
    )


def _event_now(device: torch.device) -> torch.cuda.Event:
    """Return an event after what is queued on this GPU; by itself it would be one of the current GPU."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
