"""How fast a model imagines here, measured on the plans that it makes.

A batch costs a fixed time and a time per rollout: two candidates take longer than two shares of thirty-two. Both are
fitted to the newest batches by least squares.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Measurement:
    """Rollouts under way: their horizon and device, when they were begun and, on CUDA, the event before them."""

    horizon: int
    device: torch.device
    begun_s: float
    begun: torch.cuda.Event | None = None


@dataclass
class _Cost:
    """Weighted sums over the batches of one horizon: of 1, n, n^2, t and n t for n rollouts in t seconds."""

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
    """Expected times of batches, for every horizon. Reading them never waits for a GPU."""

    def __init__(self) -> None:
        self._costs: dict[int, _Cost] = {}
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event, int, int]] = deque()

    def begin(self, horizon: int, device: torch.device) -> Measurement:
        """Note that rollouts begin."""
        begun = _event_now(device) if device.type == "cuda" else None
        return Measurement(horizon, device, time.perf_counter(), begun)

    def end(self, measurement: Measurement, rollouts: int) -> None:
        """Note that they are through, or queued on the GPU."""
        if measurement.begun is None:
            self.learn(measurement.horizon, rollouts, time.perf_counter() - measurement.begun_s)
            return
        ended = _event_now(measurement.device)
        self._pending.append((measurement.begun, ended, measurement.horizon, rollouts))

    def learn(self, horizon: int, rollouts: int, seconds: float) -> None:
        """Take in the time of a batch [s]."""
        self._costs.setdefault(horizon, _Cost()).learn(rollouts, seconds)

    def doubt(self) -> None:
        """Expect less time from now on: what kept a search from beginning cannot be measured again otherwise."""
        for cost in self._costs.values():
            cost.doubt()

    def seconds(self, horizon: int, rollouts: int) -> float | None:
        """Return the time that one batch takes [s]; None: nothing was measured yet."""
        parts_s = self._parts_s(horizon)
        return None if parts_s is None else parts_s[0] + parts_s[1] * rollouts

    def affordable(self, horizon: int, remaining_s: float) -> int | None:
        """Return how many rollouts fit into one batch of a time [s]; None: nothing was measured yet."""
        parts_s = self._parts_s(horizon)
        if parts_s is None:
            return None
        fixed_s, each_s = parts_s
        return max(0, int((_MARGIN * remaining_s - fixed_s) / each_s))

    def queued_s(self) -> float:
        """Return the time that what is queued on a GPU will take still, about [s]; 0 on a CPU."""
        self._collect()
        waiting = [self.seconds(horizon, rollouts) for _, _, horizon, rollouts in self._pending]
        return sum(seconds for seconds in waiting if seconds is not None)

    def _parts_s(self, horizon: int) -> tuple[float, float] | None:
        self._collect()
        if not self._costs:
            return None
        # Cost grows a little faster than the horizon: what is known of the nearest one tells enough.
        nearest = min(self._costs, key=lambda known: abs(known - horizon))
        fixed_s, each_s = self._costs[nearest].parts_s
        return fixed_s * horizon / nearest, each_s * horizon / nearest

    def _collect(self) -> None:
        """Read the events that have come by; leave the others."""
        while self._pending and self._pending[0][1].query():  # type: ignore[no-untyped-call]
            begun, ended, horizon, rollouts = self._pending.popleft()
            self.learn(horizon, rollouts, begun.elapsed_time(ended) / 1e3)


def _event_now(device: torch.device) -> torch.cuda.Event:
    """Return an event after what is queued on this GPU; by itself it would be one of the current GPU."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
