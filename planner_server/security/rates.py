"""How often somebody may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_MAX_KEYS = 4096  # whoever was seen last is remembered


class RateLimiter:
    """A bucket of allowances per caller, refilled steadily.

    Args:
        per_s: Requests per second that go on for ever.
        burst: Requests at once after a pause.
        clock: Source of time [s]; a test passes its own.
    """

    def __init__(
        self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def is_allowed(self, key: Hashable) -> bool:
        """Whether one more request of `key` is within its rate; counts it when it is."""
        now_s = self._clock()
        left, since_s = self._buckets.pop(key, (self._burst, now_s))
        left = min(self._burst, left + self._per_s * (now_s - since_s))
        is_allowed = left >= 1
        self._buckets[key] = (left - 1 if is_allowed else left, now_s)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        return is_allowed
