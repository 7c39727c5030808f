"""Let a model imagine many candidates: in batches that fit, within the time that is left, without waiting in between.

On a CPU every batch holds candidates of one problem, so that a plan does not depend on its neighbours by one bit; a
CPU is busy with a few dozen candidates already. On CUDA the problems share batches, which are as large as the free
memory allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from planner_server.planning.batch_memory import BatchMemory
from planner_server.planning.dynamics import Context, Dynamics
from planner_server.planning.throughput import Throughput, Work

Score = Callable[[Tensor, Tensor, slice], Tensor]
"""From tokens `[p, s, H, N, D]`, poses `[p, s, H, 7]` and which problems these are to energies `[p, s]`."""

Keep = Callable[[Tensor], Tensor]
"""From the predicted tokens `[p, s, H, N, D]` of one model call to what of them is returned `[p, s, h, N, C]`."""

Computed = Callable[[Work, int, int], int]
"""From a kind of work and the problems and candidates of a call to the rollouts that the model computes for it."""


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RolloutSettings:
    """How candidates are batched.

    Attributes:
        batch_size: Most rollouts of one model call; None: `CPU_BATCH` on a CPU, what fits into the free memory on
            CUDA.
    """

    batch_size: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class Evaluated:
    """What came of candidates: of the leading s of them where a deadline left no time for more.

    Attributes:
        energies: `[P, s]`.
        poses: Predicted poses `[P, s, H, 7]`.
        tokens: What was to be kept of the predicted tokens, `[P, s, h, N, C]`; None: nothing.
    """

    energies: Tensor
    poses: Tensor
    tokens: Tensor | None


@dataclass(frozen=True, eq=False)
class _Call:
    """What all batches of one evaluation have in common."""

    dynamics: Dynamics
    context: Context
    score: Score
    keep: Keep | None
    work: Work


class RolloutEngine:
    """Evaluates candidates with a model.

    Args:
        dynamics: The model to search with.
        settings: How to batch.
        exact: A more exact model to score results with; None: the same.
        computed: How many rollouts the model computes for those of a call, where it fills some up; None: just those.

    Attributes:
        dynamics: The model to search with.
        throughput: How long its batches take, by those of the past.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        settings: RolloutSettings | None = None,
        exact: Dynamics | None = None,
        computed: Computed | None = None,
    ) -> None:
        self.dynamics = dynamics
        self._exact = exact if exact is not None else dynamics
        self._memory = BatchMemory(None if settings is None else settings.batch_size)
        self._computed = computed if computed is not None else _just_those
        self.throughput = Throughput()

    @property
    def max_frames(self) -> int:
        """Most frames of context and horizon together, k + H - 1."""
        return self.dynamics.max_frames

    def work(
        self, context: Context, horizon: int, *, has_gradient: bool = False, exact: bool = False
    ) -> Work:
        """Return what rollouts from a context over a horizon are to `throughput` and `batch_size`."""
        is_exact = exact and self._exact is not self.dynamics
        return Work(horizon, context.frames, has_gradient, is_exact)

    def batch_size(self, work: Work, device: torch.device) -> int:
        """Return the most rollouts that one model call gets now."""
        return self._memory.most(work, device)

    def evaluate(
        self,
        context: Context,
        actions: Tensor,
        score: Score,
        *,
        deadline_s: float | None = None,
        keep: Keep | None = None,
        exact: bool = False,
    ) -> Evaluated:
        """Imagine and score candidates.

        Args:
            context: What they start from.
            actions: Candidates `[P, S, H, 7]` [m, rad, closedness], float32, on the context's device.
            score: Turns predictions into energies.
            deadline_s: Instant of `time.monotonic` by which to be through. Only the leading candidates that fit by
                then are evaluated, the same number for every problem.
            keep: What to return of the predicted tokens; it is asked within every model call, so that what it leaves
                out is held for one call only, provided that it returns a copy. None: nothing.
            exact: Use the more exact model.

        Raises:
            torch.OutOfMemoryError: Not even one rollout fits into memory.
        """
        dynamics = self._exact if exact else self.dynamics
        gradient = torch.is_grad_enabled() and actions.requires_grad
        work = self.work(context, actions.shape[2], has_gradient=gradient, exact=exact)
        call = _Call(dynamics, context, score, keep, work)
        batches: list[Evaluated] = []
        start = 0
        with _without_gradients(actions):
            while size := self._next_size(work, actions, start, deadline_s):
                measurement = self.throughput.begin(work, actions.device)
                some = actions[:, start : start + size]
                groups = [self._imagine(call, g, some[g]) for g in self._groups(work, actions)]
                batches.append(_joined(groups, dim=0))
                self.throughput.end(measurement, size * len(actions))
                start += size
            return _joined(batches, dim=1) if batches else _nothing(actions)

    def _next_size(self, work: Work, actions: Tensor, start: int, deadline_s: float | None) -> int:
        """Return how many candidates of every problem the next batch has; 0: it is over."""
        problems, candidates = actions.shape[:2]
        together = problems if actions.device.type == "cuda" else 1
        most = self.batch_size(work, actions.device)
        size = min(max(most // together, 1), candidates - start)
        while size > 1 and self._computed(work, together, size) > most:
            size -= 1
        if deadline_s is None:
            return size
        # What is queued on a GPU, by this round or those before it, has to be worked off first.
        remaining_s = deadline_s - time.monotonic() - self.throughput.queued_s()
        fitting = self.throughput.affordable(work, remaining_s)
        if fitting is not None:
            size = min(size, fitting // problems)
        return max(size, 0) if remaining_s > 0 else 0

    def _groups(self, work: Work, actions: Tensor) -> list[slice]:
        """Return which problems are imagined together."""
        together = self.batch_size(work, actions.device)
        if actions.device.type != "cuda":
            together = 1
        return [slice(i, i + together) for i in range(0, len(actions), together)]

    def _imagine(self, call: _Call, group: slice, actions: Tensor) -> Evaluated:
        """Ask the model about candidates `[p, s, H, 7]` of a group of problems; in halves where memory ends."""
        problems, candidates = actions.shape[:2]
        rollouts = self._computed(call.work, problems, candidates)
        before = self._memory.before(call.work, actions.device)
        try:
            tokens, poses = call.dynamics.rollout(call.context.select(group), actions)
            energies = call.score(tokens, poses, group)
            kept = None if call.keep is None else call.keep(tokens)
        except torch.OutOfMemoryError:
            if problems * candidates == 1:
                raise
        else:
            self._memory.fitted(call.work, actions.device, rollouts, before)
            return Evaluated(energies, poses, kept)
        # Only here, after the handler, is what the failed attempt held free again.
        self._memory.failed(call.work, actions.device, problems * candidates)
        if candidates > 1:
            halves = actions.split(-(-candidates // 2), dim=1)  # type: ignore[no-untyped-call]
            return _joined([self._imagine(call, group, half) for half in halves], dim=1)
        middle = group.start + -(-problems // 2)
        groups = (slice(group.start, middle), slice(middle, group.start + problems))
        halves = actions.split(-(-problems // 2), dim=0)  # type: ignore[no-untyped-call]
        pairs = zip(groups, halves, strict=True)
        return _joined([self._imagine(call, part, half) for part, half in pairs], dim=0)


def _just_those(_work: Work, problems: int, candidates: int) -> int:
    return problems * candidates


def _without_gradients(actions: Tensor) -> AbstractContextManager[object]:
    return nullcontext() if actions.requires_grad else torch.inference_mode()


def _joined(parts: Sequence[Evaluated], dim: int) -> Evaluated:
    """Return several parts as one: side by side as problems (0) or as candidates (1)."""
    if len(parts) == 1:
        return parts[0]
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return Evaluated(
        torch.cat([part.energies for part in parts], dim),
        torch.cat([part.poses for part in parts], dim),
        torch.cat(tokens, dim) if tokens else None,
    )


def _nothing(actions: Tensor) -> Evaluated:
    return Evaluated(actions.new_empty(len(actions), 0), actions[:, :0], None)
