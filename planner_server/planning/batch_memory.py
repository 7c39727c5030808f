"""How many rollouts one model call may have, by the memory that calls of the same kind needed.

What did not fit once may fit again, when whoever took the memory has given it back: after some full batches the limit
is raised again. Where that fails it takes twice as many batches until the next attempt.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from planner_server.planning.throughput import Work

logger = logging.getLogger(__name__)

CPU_BATCH = 32
"""Rollouts at once on a CPU; `python -m planner_server.planning.bench` prints the measurement behind it."""
_CUDA_BATCH = 1024
_PROBE = 16  # rollouts of the first batch on CUDA, by which memory is measured
_SHARE = 0.8  # of the free CUDA memory, that a batch may take
_PATIENCE = 16  # full batches that must have fitted before the limit is raised


class BatchMemory:
    """What is known of the memory that rollouts need.

    Args:
        batch_size: Most rollouts of one model call; None: `CPU_BATCH` on a CPU, what fits into the free memory on
            CUDA.
    """

    def __init__(self, batch_size: int | None) -> None:
        self._batch_size = batch_size
        self._limits: dict[Work, _Limit] = {}
        self._bytes_per_rollout: dict[Work, float] = {}

    def most(self, work: Work, device: torch.device) -> int:
        """Return the most rollouts that one model call gets now."""
        limit = self._limit(work, device).rollouts
        if device.type != "cuda" or self._batch_size is not None:
            return limit
        if work not in self._bytes_per_rollout:
            return min(limit, _PROBE)
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(1, min(limit, int(_SHARE * free / self._bytes_per_rollout[work])))

    def before(self, work: Work, device: torch.device) -> int | None:
        """Return what is allocated on the GPU, where what rollouts need has not been measured yet."""
        if device.type != "cuda" or work in self._bytes_per_rollout:
            return None
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)

    def fitted(self, work: Work, device: torch.device, rollouts: int, before: int | None) -> None:
        """Note that a batch went well, begun when `before` said what was allocated."""
        self._limit(work, device).raise_after(rollouts)
        if before is not None:
            added = torch.cuda.max_memory_allocated(device) - before
            self._bytes_per_rollout[work] = max(added / rollouts, 1.0)

    def failed(self, work: Work, device: torch.device, rollouts: int) -> None:
        """Halve the batches of this kind, and say so."""
        limit = self._limit(work, device)
        limit.lower(-(-rollouts // 2))
        logger.warning(
            "%d rollouts over %d steps from %d frames do not fit into the memory of %s: such batches have at most %d "
            "for now",
            rollouts,
            work.horizon,
            work.frames,
            device,
            limit.rollouts,
        )
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _limit(self, work: Work, device: torch.device) -> _Limit:
        highest = self._batch_size or (_CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
        return self._limits.setdefault(work, _Limit(highest, highest))


@dataclass
class _Limit:
    """Most rollouts at once, never more than `highest`."""

    highest: int
    rollouts: int
    full_batches: int = 0  # that have fitted since it was changed
    patience: int = _PATIENCE
    was_raised: bool = False  # since the last failure

    def lower(self, rollouts: int) -> None:
        self.rollouts = min(self.rollouts, rollouts)
        self.full_batches = 0
        self.patience *= 2 if self.was_raised else 1
        self.was_raised = False

    def raise_after(self, rollouts: int) -> None:
        """Double after as many full batches as patience asks for; `rollouts` are those of one that fitted."""
        if not self.rollouts <= rollouts < self.highest:
            return
        self.full_batches += 1
        if self.full_batches >= self.patience:
            self.rollouts = min(2 * self.rollouts, self.highest)
            self.full_batches, self.was_raised = 0, True
