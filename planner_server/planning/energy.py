"""The quantity that planning minimises (arXiv 2506.09985, equation 5)."""

from __future__ import annotations

from torch import Tensor


def goal_energy(predicted: Tensor, goal: Tensor) -> Tensor:
    """Return the mean absolute difference between predicted and goal tokens; lower is better.

    Args:
        predicted: Layer-normed tokens `[..., N, D]`.
        goal: Layer-normed tokens `[N, D]` of the goal image.

    Returns:
        Energies `[...]`.
    """
    return (predicted - goal).abs().mean(dim=(-2, -1))
