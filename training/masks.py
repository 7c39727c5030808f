"""Multi-block masks over a grid of space-time tokens (arXiv 2506.09985, section 2.1).

Every mask removes a few rectangles that span the whole clip; the encoder sees the complement and
the predictor has to fill in the rectangles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ASPECT_RATIO = (0.75, 1.5)


@dataclass(frozen=True)
class BlockMask:
    """One mask family: `blocks` rectangles, each covering `scale` of the image area."""

    blocks: int
    scale: float


# The published pair: many small holes and two large ones.
PUBLISHED_MASKS = (BlockMask(blocks=8, scale=0.15), BlockMask(blocks=2, scale=0.7))


def sample_masks(
    mask: BlockMask, batch: int, grid: tuple[int, int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one mask for every sample of a batch.

    The block size is drawn once for the batch and its positions for every sample. Samples are cut
    to the shortest of the batch so that they stack, as the reference does.

    Args:
        mask: Number and size of the blocks.
        batch: Samples B.
        grid: Tubelets, rows and columns of the token grid.
        generator: Source of randomness on the CPU.

    Returns:
        Indices of the tokens to keep, int64 `[B, K]`, and to predict, int64 `[B, M]`.
    """
    frames, rows, columns = grid
    height, width = _block_size(mask.scale, rows, columns, generator)
    kept: list[Tensor] = []
    hidden: list[Tensor] = []
    for _ in range(batch):
        plane = _sample_plane(mask.blocks, (height, width), (rows, columns), generator)
        clip = plane.flatten().repeat(frames)
        kept.append(clip.nonzero().squeeze(1))
        hidden.append((~clip).nonzero().squeeze(1))
    return _stack_shortest(kept), _stack_shortest(hidden)


def _block_size(
    scale: float, rows: int, columns: int, generator: torch.Generator
) -> tuple[int, int]:
    low, high = ASPECT_RATIO
    ratio = low + (high - low) * float(torch.rand((), generator=generator))
    area = int(rows * columns * scale)
    height = round(math.sqrt(area * ratio))
    width = round(math.sqrt(area / ratio))
    return min(max(height, 1), rows), min(max(width, 1), columns)


def _sample_plane(
    blocks: int, block: tuple[int, int], grid: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Return a boolean plane `[rows, columns]`, true where the token stays visible."""
    while True:
        plane = torch.ones(grid, dtype=torch.bool)
        for _ in range(blocks):
            top = int(torch.randint(0, grid[0] - block[0] + 1, (), generator=generator))
            left = int(torch.randint(0, grid[1] - block[1] + 1, (), generator=generator))
            plane[top : top + block[0], left : left + block[1]] = False
        if plane.any():
            return plane


def _stack_shortest(indices: list[Tensor]) -> Tensor:
    shortest = min(len(index) for index in indices)
    return torch.stack([index[:shortest] for index in indices])
