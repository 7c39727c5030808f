"""What stacked heads minimise, each for itself.

Letters in shapes: H heads of the grid, B samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_ALPHA, _GAMMA = 0.25, 2.0


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of logits `[H, B, K]` with labels `[B]`, `[H]`."""
    heads = len(outputs)
    each = F.cross_entropy(outputs.flatten(0, 1), labels.repeat(heads), reduction="none")
    return each.view(heads, -1).mean(dim=1)


def mean_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared difference of `[H, B, K]` from targets `[B, K]`, `[H]`."""
    return (outputs - targets).square().mean(dim=(1, 2))


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the sigmoid focal loss (arXiv 1708.02002) of logits `[H, B, K]` summed, `[H]`.

    Every class is a question of its own; what is easy counts little. Alpha 0.25, gamma 2, and a sum
    over samples and classes, as the published anticipation probes learned with.
    """
    wanted = F.one_hot(labels, outputs.shape[-1]).to(outputs).expand_as(outputs)
    surprise = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
    probability = outputs.sigmoid()
    missed = probability + wanted - 2 * probability * wanted
    weight = _ALPHA * wanted + (1 - _ALPHA) * (1 - wanted)
    return (weight * missed**_GAMMA * surprise).sum(dim=(1, 2))


def anticipation(outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the focal losses of verb, noun and action added up, `[H]`; labels are `[B, 3]`."""
    verb, noun, action = (focal(logits, labels[:, number]) for number, logits in enumerate(outputs))
    return verb + noun + action
