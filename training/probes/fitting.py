"""Probes on tokens in memory: no run folder, no files; for diagnostics and benchmarks.

Letters in shapes: H heads of the grid, M samples, B of them at a time, N tokens, D channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from training.batches import seed_of
from training.probes.head_optimiser import HeadAdamW
from training.probes.heads import HeadStack
from training.probes.losses import cross_entropy
from training.schedules import WarmupCosine

Loss = Callable[[Tensor, Tensor], Tensor]
"""Turns outputs `[H, B, K]` and targets `[B, ...]` into every head's loss `[H]`."""


@dataclass(frozen=True)
class HeadSettings:
    """How one head learns."""

    learning_rate: float
    weight_decay: float


def grid(
    learning_rates: Sequence[float], weight_decays: Sequence[float]
) -> tuple[HeadSettings, ...]:
    """Return every rate with every decay, rates outermost."""
    return tuple(HeadSettings(rate, decay) for rate in learning_rates for decay in weight_decays)


def fit_heads(
    network: HeadStack,
    tokens: Tensor,
    targets: Tensor,
    settings: Sequence[HeadSettings],
    *,
    steps: int,
    batch_size: int,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> None:
    """Train heads in place, each along half a cosine from its rate to zero.

    Args:
        network: The heads, on the device to compute on.
        tokens: `[M, N, D]`.
        targets: `[M, ...]`, as the loss takes them.
        settings: One for each head.
        steps: Updates.
        batch_size: Samples of an update; every epoch has an order of its own.
        loss: What is minimised.
        seed: Of the orders.
    """
    device = next(network.parameters()).device
    rates = torch.tensor([one.learning_rate for one in settings])
    decays = torch.tensor([one.weight_decay for one in settings])
    optimiser = HeadAdamW(network.parameters(), rates, decays)
    shape = WarmupCosine(peak=1.0)
    network.train()
    for step in range(steps):
        rows = drawn_rows(len(tokens), step * batch_size, batch_size, seed)
        optimiser.param_groups[0]["rates"] = rates * shape.at(step + 1, steps)
        update(network, optimiser, tokens[rows].to(device), targets[rows].to(device), loss)
    network.eval()


def update(
    network: HeadStack,
    optimiser: torch.optim.Optimizer,
    tokens: Tensor,
    targets: Tensor,
    loss: Loss = cross_entropy,
) -> Tensor:
    """Make one update of every head; return their losses before it, `[H]`."""
    optimiser.zero_grad(set_to_none=True)
    losses = loss(network(tokens)[0], targets)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return losses.detach()


@torch.no_grad()
def predict(network: HeadStack, tokens: Tensor, batch_size: int = 64) -> Tensor:
    """Return the heads' first outputs for tokens `[M, N, D]`, `[H, M, K]` on the CPU."""
    device = next(network.parameters()).device
    parts = [network(part.to(device))[0].cpu() for part in torch.split(tokens, batch_size)]
    return torch.cat(parts, dim=1)


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the share of samples whose largest output `[H, M, K]` is their label `[M]`, `[H]`."""
    return (outputs.argmax(dim=-1) == labels).float().mean(dim=1)


def drawn_rows(samples: int, first: int, count: int, seed: int) -> Tensor:
    """Return samples number `first` to `first + count` of an endless series of shuffled epochs."""
    numbers = range(first, first + count)
    return torch.stack(
        [_order(samples, number // samples, seed)[number % samples] for number in numbers]
    )


@lru_cache(maxsize=2)
def _order(samples: int, epoch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    return torch.randperm(samples, generator=generator)
