"""Fixed sine-cosine positions, added to the patches of encoders that do not rotate.

Half of the channels tell the time, a quarter the row and a quarter the column.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BASE = 10_000.0
_CACHED_TABLES = 16

Grid = tuple[int, int, int]


@lru_cache(maxsize=_CACHED_TABLES)
def sincos_table(frames: int, rows: int, columns: int, dim: int) -> Tensor:
    """Return the positions of a grid of patches, `[frames * rows * columns, dim]`, in raster order.

    This is the published parameter `pos_embed` (without its leading axis), which is never trained.
    """
    with torch.inference_mode(mode=False):
        parts = [
            _axis_table(frames, dim // 2).view(frames, 1, 1, -1),
            _axis_table(rows, dim // 4).view(1, rows, 1, -1),
            _axis_table(columns, dim // 4).view(1, 1, columns, -1),
        ]
        grid = (frames, rows, columns)
        return torch.cat([part.expand(*grid, -1) for part in parts], dim=-1).flatten(0, 2)


def sincos_positions(grid: Grid, learned: Grid, dim: int) -> Tensor:
    """Return positions `[tokens, dim]` for clips of another grid than the `learned` one.

    Shorter clips take the first frames of the table; every other grid is interpolated from it, as
    the reference does, so that positions keep the meaning that they had in training.
    """
    table = sincos_table(*learned, dim)
    if grid[1:] == learned[1:] and grid[0] <= learned[0]:
        return table[: grid[0] * grid[1] * grid[2]]
    volume = table.view(1, *learned, dim).permute(0, 4, 1, 2, 3)
    stretched = F.interpolate(volume, grid, mode="trilinear")
    return stretched.flatten(2).squeeze(0).T


def _axis_table(size: int, dim: int) -> Tensor:
    """Return sines, then cosines of the positions along one axis, `[size, dim]`."""
    frequency = _BASE ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = torch.arange(size, dtype=torch.float64).unsqueeze(1) * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
