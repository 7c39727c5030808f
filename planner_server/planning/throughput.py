"""How fast a model imagines here, measured on the plans that it makes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import torch

_NEWEST = 0.5  # weight of the newest measurement in the moving average
_MARGIN = 0.9  # share of the remaining time that is given away


@dataclass(frozen=True)
class Measurement:
    """Rollouts under way: their horizon, when they were begun and, on CUDA, the event before them."""

    horizon: int
    begun_s: float
    begun: torch.cuda.Event | None = None


class Throughput:
    """A moving average of the seconds per rollout, for every horizon. Reading it never waits for a GPU."""

    def __init__(self) -> None:
        self._seconds_per_rollout: dict[int, float] = {}
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event, int, int]] = deque()

    def begin(self, horizon: int, device: torch.device) -> Measurement:
        """Note that rollouts begin."""
        if device.type != "cuda":
            return Measurement(horizon, time.perf_counter())
        begun = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begun.record()
        return Measurement(horizon, time.perf_counter(), begun)

    def end(self, measurement: Measurement, rollouts: int) -> None:
        """Note that they are through, or queued on the GPU."""
        if measurement.begun is None:
            elapsed_s = time.perf_counter() - measurement.begun_s
            self._learn(measurement.horizon, elapsed_s / rollouts)
            return
        ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        ended.record()
        self._pending.append((measurement.begun, ended, measurement.horizon, rollouts))

    def affordable(self, horizon: int, remaining_s: float) -> int | None:
        """Return how many rollouts fit into a time [s]; None: none of this or another horizon was measured."""
        self._collect()
        if not self._seconds_per_rollout:
            return None
        # Cost grows a little faster than the horizon: what is known of the nearest one tells enough.
        nearest = min(self._seconds_per_rollout, key=lambda known: abs(known - horizon))
        per_rollout_s = self._seconds_per_rollout[nearest] * horizon / nearest
        return max(0, int(_MARGIN * remaining_s / per_rollout_s))

    def _collect(self) -> None:
        """Read the events that have come by; leave the others."""
        while self._pending and self._pending[0][1].query():  # type: ignore[no-untyped-call]
            begun, ended, horizon, rollouts = self._pending.popleft()
            self._learn(horizon, begun.elapsed_time(ended) / 1e3 / rollouts)

    def _learn(self, horizon: int, per_rollout_s: float) -> None:
        known = self._seconds_per_rollout.get(horizon, per_rollout_s)
        self._seconds_per_rollout[horizon] = _NEWEST * per_rollout_s + (1 - _NEWEST) * known
