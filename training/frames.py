"""Single frames out of recordings, drawn evenly over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.batches import Batch, seed_of
from training.episodes import LiveEpisodes, PixelWindows
from training.windows import WindowSampler, WindowSettings


@dataclass(frozen=True)
class Frames(Batch):
    """A batch of frames, uint8 RGB `[B, H, W, 3]`."""

    frames: Tensor


class FrameSource:
    """Makes groups of frames.

    Args:
        data: The recordings.
        episodes: Names of those to draw from.
        group_size: Frames in a group.
        seed: Seed of all draws.
    """

    def __init__(
        self, data: LiveEpisodes, episodes: Sequence[str], group_size: int, seed: int
    ) -> None:
        self._sampler = WindowSampler(data, episodes, WindowSettings(frames=1))
        self._group_size = group_size
        self._seed = seed

    def __call__(self, step: int, group: int) -> Frames:
        """Make group `group` of the batch of update `step`."""
        generator = torch.Generator().manual_seed(seed_of(self._seed, step, group))
        drawn = self._sampler.sample(self._group_size, generator)
        if not isinstance(drawn, PixelWindows):
            raise TypeError(f"recordings gave {type(drawn).__name__}, not frames")
        return replace(Frames(drawn.frames[:, 0]), names=drawn.names, skipped=drawn.skipped)
