"""Rotary position embedding over space and time, in the two flavours of published weights.

The channels of a head are split into a part for time, one for the row, one for the column, and a
rest that is not rotated. Channels are rotated in neighbouring pairs. Flavour `vjepa2` *tiles* the
frequencies (`w0 w1 .. w0 w1 ..`) where pairs would need them repeated (`w0 w0 w1 w1 ..`), so the two
channels of a pair turn by different angles. The weights were trained that way, so it stays.
Flavour `vjepa2_1` repeats them, which makes true rotations, and stretches rows and columns of any
grid to those of a 256 px frame (0 to 15).

Tables are built once for every grid, type and device and then kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from models.encoder_config import RopeFlavour

_BASE = 10_000.0
_SCALED_GRID = 16  # rows and columns of the grid that `vjepa2_1` stretches others to
_CACHED_TABLES = 64


@dataclass(frozen=True)
class Rotary:
    """Cosines and signed sines of tokens, each `[N, C]` or, after `select`, `[B, 1, K, C]`."""

    cosine: Tensor
    sine: Tensor

    def select(self, ids: Tensor) -> Rotary:
        """Keep the tokens with the given ids, int64 `[B, K]`, for all heads."""
        return Rotary(self.cosine[ids].unsqueeze(1), self.sine[ids].unsqueeze(1))

    def rotate(self, channels: Tensor) -> Tensor:
        """Rotate queries or keys `[B, heads, N, C]`."""
        first, second = channels.reshape(*channels.shape[:-1], -1, 2).unbind(-1)
        swapped = torch.stack((second, first), dim=-1).flatten(-2)
        return channels * self.cosine + swapped * self.sine


def axis_channels(head_dim: int) -> int:
    """Return how many channels of a head each of the three axes takes; always even."""
    return 2 * (head_dim // 3 // 2)


@lru_cache(maxsize=_CACHED_TABLES)
def grid_rotary(
    frames: int,
    rows: int,
    columns: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    flavour: RopeFlavour = "vjepa2",
) -> Rotary:
    """Return the table of a grid of patches `[frames * rows * columns, head_dim]`, in raster order."""
    positions = torch.stack(_grid_positions(frames, rows, columns, flavour))
    return _table(positions, head_dim, dtype, device, flavour)


@lru_cache(maxsize=_CACHED_TABLES)
def conditioned_rotary(
    frames: int,
    rows: int,
    columns: int,
    conditions: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    flavour: RopeFlavour = "vjepa2",
) -> Rotary:
    """Return the table of frames that each start with `conditions` tokens that have no place.

    Such a token (action, state) stands at its frame's time, in row and column 0, where nothing is
    rotated. The table is `[frames * (conditions + rows * columns), head_dim]`.
    """
    patches = torch.stack(_grid_positions(frames, rows, columns, flavour)).view(3, frames, -1)
    tokens = torch.zeros(3, frames, conditions)
    tokens[0] = torch.arange(frames).unsqueeze(1)
    positions = torch.cat([tokens, patches], dim=2).flatten(1)
    return _table(positions, head_dim, dtype, device, flavour)


def _grid_positions(frames: int, rows: int, columns: int, flavour: RopeFlavour) -> list[Tensor]:
    """Return time, row and column of every patch, each float32 `[frames * rows * columns]`."""
    axes = [torch.arange(size, dtype=torch.float32) for size in (frames, rows, columns)]
    if flavour == "vjepa2_1":
        axes[1:] = [axis * (_SCALED_GRID - 1) / max(len(axis) - 1, 1) for axis in axes[1:]]
    return [axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")]


def _table(
    positions: Tensor,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    flavour: RopeFlavour,
) -> Rotary:
    """Build the table of tokens at `positions` `[3, N]`."""
    # A table made while inference mode is on could never be used in training again.
    with torch.inference_mode(mode=False):
        size = axis_channels(head_dim)
        angles = torch.zeros(positions.shape[1], head_dim)
        for axis, position in enumerate(positions):
            turned = _axis_angles(position, size, dtype, flavour)
            angles[:, axis * size : (axis + 1) * size] = turned
        sine = angles.sin()
        sine[:, ::2] *= -1.0  # a pair (a, b) becomes (a cos - b sin, b cos + a sin)
        return Rotary(angles.cos().to(device, dtype), sine.to(device, dtype))


def _axis_angles(position: Tensor, size: int, dtype: torch.dtype, flavour: RopeFlavour) -> Tensor:
    """Return angles `[N, size]` of one axis, ordered as the flavour's weights expect."""
    # The reference rounds the exponent to the type it computes in, so half precision differs.
    exponent = torch.arange(size // 2).to(dtype) / (size / 2)
    frequency = 1.0 / _BASE ** exponent.float()
    angles = position.unsqueeze(1) * frequency
    return angles.repeat(1, 2) if flavour == "vjepa2" else angles.repeat_interleave(2, dim=1)
