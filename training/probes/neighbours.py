"""Votes of the nearest training samples (as in arXiv 2104.14294, section 4.1); nothing is learned.

Letters in shapes: M queries, R references, D channels, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InvalidInputError

_AT_ONCE = 2**25  # similarities in memory


def neighbour_scores(
    queries: Tensor,
    references: Tensor,
    labels: Tensor,
    classes: int,
    *,
    neighbours: Sequence[int],
    temperature: float = 0.07,
) -> Tensor:
    """Let the nearest references vote for their classes.

    Args:
        queries: `[M, D]`.
        references: `[R, D]`.
        labels: Classes of the references `[R]`.
        classes: How many there are.
        neighbours: How many vote; each is tried.
        temperature: A vote is exp(cosine similarity / temperature).

    Returns:
        Votes `[len(neighbours), M, C]`.

    Raises:
        InvalidInputError: There are no references, or they have another width.
    """
    if not len(references) or queries.shape[1:] != references.shape[1:]:
        raise InvalidInputError(
            f"queries {list(queries.shape)} and references {list(references.shape)}; expected "
            "[M, D] and [R >= 1, D]"
        )
    known = F.normalize(references, dim=1).mT
    most = min(max(neighbours), len(references))
    parts = []
    at_once = max(1, _AT_ONCE // len(references))
    for part in torch.split(F.normalize(queries, dim=1), at_once):
        similarity, nearest = (part @ known).topk(most, dim=1)
        # Relative to the nearest, so that no vote overflows.
        votes = ((similarity - similarity[:, :1]) / temperature).exp()
        elected = labels[nearest]
        counts = [
            votes.new_zeros(len(part), classes).scatter_add_(1, elected[:, :k], votes[:, :k])
            for k in neighbours
        ]
        parts.append(torch.stack(counts))
    return torch.cat(parts, dim=1)
