"""AdamW for stacked heads: every head with its own rate and decay, in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_EPSILON = 1e-8


class HeadAdamW(torch.optim.Optimizer):
    """AdamW (arXiv 1711.05101) on parameters `[H, ...]`; all of them decay, vectors too, as published.

    Args:
        parameters: Stacked parameters.
        rates: Learning rate of every head `[H]`; may be changed between steps.
        decays: Weight decay of every head `[H]`; likewise.
        betas: Of the running means.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        rates: Tensor,
        decays: Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(list(parameters), {"rates": rates, "decays": decays, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one update of every head."""
        if closure is not None:
            raise TypeError("HeadAdamW evaluates no closure; compute the gradients before")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in moved]
            settings = zip(group["rates"].tolist(), group["decays"].tolist(), strict=True)
            for head, (rate, decay) in enumerate(settings):
                # What torch.optim.AdamW(fused=True) calls: one pass over parameters and state.
                torch._fused_adamw_(
                    [parameter[head] for parameter in moved],
                    [parameter.grad[head] for parameter in moved],
                    [state["exp_avg"][head] for state in states],
                    [state["exp_avg_sq"][head] for state in states],
                    [],
                    [state["step"] for state in states],
                    lr=rate,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=decay,
                    eps=_EPSILON,
                    amsgrad=False,
                    maximize=False,
                )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return what is remembered of a parameter, for the step that is being made."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        return state
