"""Learning-rate and momentum schedules as functions of the step."""

from __future__ import annotations

import math


def warmup_cosine(
    step: int, total_steps: int, warmup_steps: int, peak: float, final: float = 0.0
) -> float:
    """Rise linearly to `peak` over the warm-up, then follow half a cosine down to `final`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return final + 0.5 * (peak - final) * (1.0 + math.cos(math.pi * min(1.0, progress)))


def linear(step: int, total_steps: int, start: float, end: float) -> float:
    """Go from `start` to `end` in a straight line."""
    return start + (end - start) * min(1.0, step / max(1, total_steps))
