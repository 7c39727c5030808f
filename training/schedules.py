"""Learning rate, weight decay and momentum as functions of the update.

Updates count from 1: the first update of a run is made with the values at 1, the last of `total`
with those at `total`, as in the reference.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from models.config import FrozenConfig


class _Schedule(FrozenConfig):
    over_steps: PositiveInt | None = Field(
        default=None,
        description="Updates that the schedule spans; a run may end earlier. None: those of the run.",
    )

    def _total(self, steps: int) -> int:
        return self.over_steps or max(1, steps)


class WarmupCosine(_Schedule):
    """Rise linearly to `peak`, then fall along half a cosine to `final`."""

    kind: Literal["cosine"] = "cosine"
    peak: PositiveFloat
    start: NonNegativeFloat = 0.0
    final: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0

    def at(self, update: int, steps: int) -> float:
        """Return the value of update number `update` in a run of `steps` updates."""
        if update < self.warmup_steps:
            return _mix(self.start, self.peak, update / self.warmup_steps)
        progress = (update - self.warmup_steps) / max(1, self._total(steps) - self.warmup_steps)
        return _cosine(self.peak, self.final, progress)


class WarmupStableDecay(_Schedule):
    """Rise linearly to `peak`, stay there, and fall linearly to `final` at the end.

    Without `decay_steps` it is a warm-up and a constant, the published pretraining.
    """

    kind: Literal["wsd"] = "wsd"
    peak: PositiveFloat
    start: NonNegativeFloat = 0.0
    final: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    decay_steps: NonNegativeInt = 0

    def at(self, update: int, steps: int) -> float:
        """Return the value of update number `update` in a run of `steps` updates."""
        if update < self.warmup_steps:
            return _mix(self.start, self.peak, update / self.warmup_steps)
        left = self._total(steps) - update
        if left >= self.decay_steps:
            return self.peak
        return _mix(self.final, self.peak, max(0.0, left / self.decay_steps))


class LinearDecay(_Schedule):
    """Fall linearly from `peak` to `final`: the cool-down of a finished constant schedule."""

    kind: Literal["linear"] = "linear"
    peak: PositiveFloat
    final: NonNegativeFloat = 0.0

    def at(self, update: int, steps: int) -> float:
        """Return the value of update number `update` in a run of `steps` updates."""
        return _mix(self.peak, self.final, min(1.0, update / self._total(steps)))


LearningRate = Annotated[
    WarmupCosine | WarmupStableDecay | LinearDecay, Field(discriminator="kind")
]


class WeightDecay(_Schedule):
    """Go from `start` to `final` along half a cosine."""

    start: NonNegativeFloat
    final: NonNegativeFloat

    def at(self, update: int, steps: int) -> float:
        """Return the value of update number `update` in a run of `steps` updates."""
        return _cosine(self.start, self.final, update / self._total(steps))


def linear(done: int, total: int, start: float, end: float) -> float:
    """Go from `start`, when nothing is done, to `end` when `total` is done."""
    return _mix(start, end, min(1.0, done / max(1, total)))


def _mix(start: float, end: float, share: float) -> float:
    return start + share * (end - start)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * min(1.0, progress)))
