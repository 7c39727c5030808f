"""Numbers that evaluations are told in.

Letters in shapes: M samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share that was counted, 95 % by default (Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    share = correct / total
    scale = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / scale
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def hits(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return whether the label is among the k largest scores `[.., M, C]`, bool `[.., M]`."""
    best = scores.topk(min(k, scores.shape[-1]), dim=-1).indices
    return (best == labels.unsqueeze(-1)).any(dim=-1)


def mean_over_classes(hit: Tensor, labels: Tensor) -> Tensor:
    """Average hits `[M, ..]` within every class that has samples, then over these classes."""
    present, place = torch.unique(labels, return_inverse=True)
    shape = (len(present), *hit.shape[1:])
    found = torch.zeros(shape, dtype=torch.float64).index_add_(0, place, hit.double())
    mean: Tensor = (found / place.bincount().view(-1, *(1 for _ in shape[1:]))).mean(dim=0)
    return mean


def class_mean_recall(
    scores: Tensor, labels: Tensor, k: int = 5, classes: Sequence[int] | None = None
) -> float:
    """Return the recall at k of every class, averaged over the classes that have samples.

    Args:
        scores: `[M, C]`.
        labels: `[M]`.
        k: How many answers count.
        classes: Classes that may be answered; None: all. EPIC-KITCHENS-100 is measured with those
            of the validation set.
    """
    if classes is not None:
        scores = only(scores, classes)
    return float(mean_over_classes(hits(scores, labels, k), labels))


def only(scores: Tensor, classes: Sequence[int]) -> Tensor:
    """Put scores `[.., C]` of all other classes behind those of some."""
    allowed = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    allowed[list(classes)] = True
    return scores.masked_fill(~allowed, -torch.inf)


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Count predictions of every class, int64 `[C, C]`; rows are the true classes."""
    places = labels.long() * classes + predictions.long()
    return places.bincount(minlength=classes**2).view(classes, classes)
