"""The optimiser that both trainings share: AdamW, scheduled, clipped, and loud about divergence."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.config import OptimiserConfig
from training.errors import DivergedError
from training.schedules import warmup_cosine


class Optimiser:
    """Update the parameters of some modules by AdamW.

    Biases and one-dimensional weights (norms) are not decayed (arXiv 2506.09985, appendix A).
    """

    def __init__(self, modules: Iterable[nn.Module], config: OptimiserConfig) -> None:
        self._config = config
        self._parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
        decayed = [p for p in self._parameters if p.ndim > 1]
        plain = [p for p in self._parameters if p.ndim <= 1]
        self._adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )

    def step(self, loss: Tensor, step: int) -> None:
        """Back-propagate `loss` and update once.

        Raises:
            DivergedError: The loss is not finite; the weights are left as they were.
        """
        if not math.isfinite(float(loss.detach())):
            raise DivergedError(f"loss is {float(loss.detach())} at step {step}; lower the rate")
        config = self._config
        rate = warmup_cosine(
            step,
            config.steps,
            config.warmup_steps,
            config.learning_rate,
            config.final_learning_rate,
        )
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, config.clip_norm)
        self._adamw.step()
