"""The predictor compiled for the commonest work: one step of one problem's candidates, from one frame of context.

Every shape is a graph of its own. Compiling one takes tens of seconds, for which no robot can wait, and after eight
graphs of a function torch runs it uncompiled from then on. So there are only those of `COMPILED_SIZES`; every other
horizon, context and number of problems is imagined without a compiler.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.rollout import ACRollout
from models.rollout_memory import Memory
from planner_server.planning.throughput import Work

COMPILED_SIZES = (16, 32, 64, 128, 256, 512, 800)
"""Candidates that the compiled step is run with; fewer are filled up with actions that stay."""


class CompiledStep:
    """One step of candidates of one problem, compiled and, on CUDA, replayed as a graph.

    Args:
        rollout: What is compiled.
        device: Where it runs.
    """

    def __init__(self, rollout: ACRollout, device: torch.device) -> None:
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._imagine = torch.compile(rollout.imagine, mode=mode, dynamic=False)

    @staticmethod
    def size(work: Work, problems: int, candidates: int) -> int | None:
        """Return how many candidates are computed for so many; None: this work is not compiled."""
        if not problems == work.horizon == work.frames == 1 or work.has_gradient or work.is_exact:
            return None
        return next((size for size in COMPILED_SIZES if size >= candidates), None)

    def imagine(self, memory: Memory, actions: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Imagine where actions `[1, S, 1, 7]` lead, S filled up to a size; see `ACRollout.imagine`."""
        count = actions.shape[1]
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # In another mode, or another layout in memory, it would be another graph.
        with torch.inference_mode():
            filled = actions.new_zeros(1, size, *actions.shape[2:])
            filled[:, :count] = actions
            tokens, poses = self._imagine(memory, filled)
        # A replayed graph writes to the same place every time.
        return tokens[:, :count].clone(), poses[:, :count].clone()
