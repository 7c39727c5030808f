"""One update of a network of ours, as the ways that `benchmarks.training` compares have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.config import OptimiserConfig, OptimiserKind
from training.optimiser import build_optimiser
from training.schedules import WarmupStableDecay

FRAMES = 8
"""Frames of a window."""

OPTIMISER = OptimiserConfig(learning_rate=WarmupStableDecay(peak=1e-4))

Update = Callable[[], float]
"""Makes an update and returns its loss."""


def update_of(
    network: nn.Module,
    read: Callable[[], Any],
    device: torch.device,
    kind: OptimiserKind = "adamw",
) -> Update:
    """Return what makes an update of a network in bfloat16.

    Args:
        network: Returns the loss of a batch, and something else.
        read: Makes a batch.
        device: Where the network is.
        kind: The optimiser.
    """
    optimiser = build_optimiser(network, OPTIMISER.model_copy(update={"kind": kind}))

    def update() -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = network(read())[0]
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return update
