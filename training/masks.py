"""Which tokens of a clip the encoder sees and which are predicted (arXiv 2506.09985, section 2.1).

The published masks remove rectangles that span the whole clip (`BlockMask`). The others hide
whole moments: the future, or random tubelets. Every mask of a group keeps equally many tokens in
every sample, so that they stack: samples are cut to the shortest, as in the reference.

Letters in shapes: B samples, K tokens kept, M tokens hidden.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Generator, Tensor
from typing_extensions import Self

from models.config import FrozenConfig
from training.errors import ConfigurationError

Grid = tuple[int, int, int]
"""Tubelets, rows and columns of tokens."""

Share = Annotated[float, Field(gt=0, le=1)]


class BlockMask(FrozenConfig):
    """Some rectangles of one size, at random places; their union is predicted."""

    kind: Literal["blocks"] = "blocks"
    blocks: PositiveInt = Field(description="Number of rectangles.")
    scale: Share = Field(description="Share of the image that one of them covers.")
    aspect_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.75, 1.5), description="Least and largest height / width."
    )
    duration: Share = Field(default=1.0, description="Share of the clip that they last.")
    visible: Share = Field(
        default=1.0, description="Share of the clip, from its beginning, that the encoder may see."
    )
    causal: bool = Field(
        default=False,
        description="Show nothing from the first hidden moment on; what is beside the rectangles "
        "then is neither seen nor predicted.",
    )

    @model_validator(mode="after")
    def _check_causal(self) -> Self:
        if self.causal and self.duration == 1.0:
            raise ValueError(
                "a causal mask that lasts the whole clip shows nothing; shorten duration"
            )
        return self


class FutureMask(FrozenConfig):
    """See the beginning, predict the rest."""

    kind: Literal["future"] = "future"
    visible: tuple[Share, Share] = Field(
        default=(0.25, 0.75), description="Least and largest share of the clip that is seen."
    )
    rates: tuple[PositiveInt, ...] = Field(
        default=(1,),
        min_length=1,
        description="Predict every n-th tubelet after the visible ones; n is drawn from these.",
    )


class FrameMask(FrozenConfig):
    """Drop random tubelets, predict them."""

    kind: Literal["frames"] = "frames"
    dropped: tuple[Share, Share] = Field(
        default=(0.25, 0.75), description="Least and largest share of the clip that is hidden."
    )


Mask = Annotated[BlockMask | FutureMask | FrameMask, Field(discriminator="kind")]

_TRIES = 100  # per sample, until something is left to see

PUBLISHED_MASKS = (BlockMask(blocks=8, scale=0.15), BlockMask(blocks=2, scale=0.7))
"""Many small holes, and two large ones."""


def sample_masks(
    mask: Mask, batch: int, grid: Grid, sizes: Generator, places: Generator
) -> tuple[Tensor, Tensor]:
    """Draw a mask for every sample of a group.

    Args:
        mask: What to hide.
        batch: Samples B.
        grid: Tubelets, rows and columns of the tokens.
        sizes: Randomness of what all samples have in common; give all groups of a batch the same.
        places: Randomness of every sample.

    Returns:
        Ids of the tokens to keep, int64 `[B, K]`, and to predict, int64 `[B, M]`, both rising.
    """
    if isinstance(mask, BlockMask):
        return _sample_blocks(mask, batch, grid, sizes, places)
    if isinstance(mask, FutureMask):
        return _sample_future(mask, batch, grid, sizes)
    return _sample_frames(mask, batch, grid, sizes, places)


def _sample_blocks(
    mask: BlockMask, batch: int, grid: Grid, sizes: Generator, places: Generator
) -> tuple[Tensor, Tensor]:
    size = _block_size(mask, grid, sizes)
    kept: list[Tensor] = []
    hidden: list[Tensor] = []
    for _ in range(_TRIES * batch):
        covered = _place_blocks(mask.blocks, size, grid, places)
        seen = ~covered
        seen[max(1, round(grid[0] * mask.visible)) :] = False
        if mask.causal:
            first = int(covered.flatten(1).any(dim=1).nonzero()[0])
            seen[first:] = False
        else:
            covered = ~seen
        if seen.any():
            kept.append(seen.flatten().nonzero().squeeze(1))
            hidden.append(covered.flatten().nonzero().squeeze(1))
        if len(kept) == batch:
            break
    else:
        raise ConfigurationError(
            f"{mask.blocks} blocks of {size} tokens leave nothing to see of {grid}; make them fewer "
            "or smaller"
        )
    return _stack_shortest(kept), _stack_shortest(hidden)


def _block_size(mask: BlockMask, grid: Grid, sizes: Generator) -> Grid:
    frames, rows, columns = grid
    low, high = mask.aspect_ratio
    ratio = low + (high - low) * float(torch.rand((), generator=sizes))
    area = int(rows * columns * mask.scale)
    height = min(max(round(math.sqrt(area * ratio)), 1), rows)
    width = min(max(round(math.sqrt(area / ratio)), 1), columns)
    return max(1, int(frames * mask.duration)), height, width


def _place_blocks(blocks: int, size: Grid, grid: Grid, places: Generator) -> Tensor:
    """Return which tokens the rectangles cover, bool `[frames, rows, columns]`."""
    covered = torch.zeros(grid, dtype=torch.bool)
    for _ in range(blocks):
        start = [
            int(torch.randint(0, whole - part + 1, (), generator=places))
            for whole, part in zip(grid, size, strict=True)
        ]
        covered[tuple(slice(a, a + part) for a, part in zip(start, size, strict=True))] = True
    return covered


def _sample_future(
    mask: FutureMask, batch: int, grid: Grid, sizes: Generator
) -> tuple[Tensor, Tensor]:
    frames = _at_least_two(grid)
    seen = _draw_count(mask.visible, frames, sizes)
    rate = mask.rates[int(torch.randint(0, len(mask.rates), (), generator=sizes))]
    first = min(seen + rate - 1, frames - 1)
    kept = _tokens_of(torch.arange(seen).expand(batch, -1), grid)
    return kept, _tokens_of(torch.arange(first, frames, rate).expand(batch, -1), grid)


def _sample_frames(
    mask: FrameMask, batch: int, grid: Grid, sizes: Generator, places: Generator
) -> tuple[Tensor, Tensor]:
    frames = _at_least_two(grid)
    dropped = _draw_count(mask.dropped, frames, sizes)
    order = torch.rand(batch, frames, generator=places).argsort(dim=1)
    hidden = _tokens_of(order[:, :dropped].sort(dim=1).values, grid)
    return _tokens_of(order[:, dropped:].sort(dim=1).values, grid), hidden


def _at_least_two(grid: Grid) -> int:
    if grid[0] < 2:
        raise ValueError(f"a mask over time needs two tubelets or more; the clip has {grid[0]}")
    return grid[0]


def _draw_count(share: tuple[float, float], frames: int, sizes: Generator) -> int:
    """Draw a number of tubelets that leaves at least one, and takes at least one."""
    low, high = (min(max(round(value * frames), 1), frames - 1) for value in share)
    return int(torch.randint(low, high + 1, (), generator=sizes))


def _tokens_of(frames: Tensor, grid: Grid) -> Tensor:
    """Return the ids of all tokens of tubelets `[B, T]`, `[B, T * rows * columns]`."""
    places = grid[1] * grid[2]
    return (frames.unsqueeze(-1) * places + torch.arange(places)).flatten(1)


def _stack_shortest(indices: list[Tensor]) -> Tensor:
    shortest = min(len(index) for index in indices)
    return torch.stack([index[:shortest] for index in indices])
