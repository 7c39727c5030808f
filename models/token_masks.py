"""Token masks: which tokens of every sample are meant, as ids in raster order.

Letters in shapes: M masks, B samples, K tokens per mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import InvalidInputError


def stack_masks(name: str, masks: Sequence[Tensor], rows: int) -> Tensor:
    """Stack masks along the batch, the first mask's samples first.

    Args:
        name: What to call the masks in an error.
        masks: M times int64 `[B, K]`, with one K for all.
        rows: The number of rows that have to come out, M * B.

    Returns:
        int64 `[M * B, K]`.

    Raises:
        InvalidInputError: The masks are of other types or shapes.
    """
    shapes = [list(mask.shape) for mask in masks]
    kinds = {mask.dtype for mask in masks}
    if (
        kinds != {torch.int64}
        or any(len(shape) != 2 or shape[1] == 0 or shape != shapes[0] for shape in shapes)
        or len(masks) * shapes[0][0] != rows
    ):
        raise InvalidInputError(
            f"{name} have shapes {shapes} and types {sorted(map(str, kinds))}; expected int64 "
            f"[B, K], alike, with {rows} rows together"
        )
    return torch.cat(list(masks))
