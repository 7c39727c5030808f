"""Batches of clips and masks for pretraining: which videos, which frames, which tokens.

Sample i of update s is a function of the seed, s and i alone (`training.batches`). Which lengths of
clips an update has is alike in all of its groups: processes then do equally much, and sharded ones
exchange the same parameters at the same time.

Letters in shapes: B samples, T frames, K tokens kept, M tokens hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augmentation import augment
from training.batches import Batch, seed_of
from training.errors import DataError
from training.masks import sample_masks
from training.pretrain_config import PretrainConfig, SourceConfig
from training.videos import Videos, open_videos
from trajectories.errors import TrajectoryError

# What random numbers are for; the first of the numbers that seed them, so that none are used twice.
_LENGTHS, _CLIPS, _SIZES, _PLACES = range(1, 5)


@dataclass(frozen=True)
class ClipGroup:
    """Clips of one length, and their masks.

    Attributes:
        clip: float32 `[B, 3, T, H, W]`, ImageNet-normalised.
        keep: For every mask, ids of the tokens that the encoder sees, int64 `[B, K]`.
        hidden: For every mask, ids of the tokens to predict, int64 `[B, M]`.
        order: Place of this length among those of the recipe, the shortest first.
    """

    clip: Tensor
    keep: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]
    order: int


@dataclass(frozen=True)
class ClipBatch(Batch):
    """A group of samples of pretraining.

    Attributes:
        groups: The clips by their length; only lengths that were drawn.
        step: The update they are for (from 0).
        is_monitored: Whether to look for signs of collapse this time, in the longest clips.
    """

    groups: tuple[ClipGroup, ...]
    step: int
    is_monitored: bool


class ClipSource:
    """Draws clips from the weighted sources of a recipe.

    Raises:
        DataError: A source is empty.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self._config = config
        self._videos: Mapping[str, Videos] = {
            name: open_videos(name, source) for name, source in config.data.items()
        }

    def __call__(self, step: int, group: int) -> ClipBatch:
        """Make group `group` of the batch of update `step` (both from 0)."""
        config = self._config
        size = config.group_size_at(step)
        clips: dict[int, list[Tensor]] = {}
        names: list[str] = []
        skipped: list[str] = []
        for place in range(size):
            chosen = self._draw_length(step, place)
            clip, name = self._draw(step, group * size + place, chosen, skipped)
            clips.setdefault(clip.shape[1], []).append(clip)
            names.append(name)
        lengths = sorted({config.encoded_frames_of(s, step) for s in config.data.values()})
        return ClipBatch(
            names=tuple(names),
            skipped=tuple(skipped),
            groups=tuple(
                self._masked(torch.stack(clips[length]), order, step, group)
                for order, length in enumerate(lengths)
                if length in clips
            ),
            step=step,
            is_monitored=group == 0
            and (step + 1) % config.run.log_every == 0
            and lengths[-1] in clips,
        )

    def _draw_length(self, step: int, place: int) -> list[str]:
        """Return the sources with the length that samples at a place of a group have."""
        rng = np.random.default_rng([_LENGTHS, self._config.seed, step, place])
        first = self._config.data[self._draw_source(list(self._config.data), rng)]
        frames = self._config.frames_of(first, step)
        return [
            name
            for name, source in self._config.data.items()
            if self._config.frames_of(source, step) == frames
        ]

    def _draw_source(self, names: Sequence[str], rng: np.random.Generator) -> str:
        weights = np.array([self._config.data[name].weight for name in names])
        return names[int(rng.choice(len(names), p=weights / weights.sum()))]

    def _draw(
        self, step: int, sample: int, names: Sequence[str], skipped: list[str]
    ) -> tuple[Tensor, str]:
        """Draw a clip `[3, T, H, W]` of some sources; another one where one cannot be read."""
        config = self._config
        failures: list[str] = []
        for attempt in range(config.max_retries + 1):
            rng = np.random.default_rng([_CLIPS, config.seed, step, sample, attempt])
            name = self._draw_source(names, rng)
            videos, source = self._videos[name], config.data[name]
            index = int(rng.integers(len(videos)))
            try:
                return self._cut(videos, index, source, step, rng), videos.name(index)
            except (TrajectoryError, OSError, ValueError) as error:
                failures.append(f"{videos.name(index)}: {error}")
                skipped.append(failures[-1])
        raise DataError(
            f"{len(failures)} clips in a row cannot be read, the last one {failures[-1]}; look at "
            "the data, or raise max_retries"
        )

    def _cut(
        self,
        videos: Videos,
        index: int,
        source: SourceConfig,
        step: int,
        rng: np.random.Generator,
    ) -> Tensor:
        """Cut a clip from a video and augment it."""
        config = self._config
        stream = videos.open(index, rng)
        try:
            count = config.frames_of(source, step)
            rows = choose_rows(len(stream), stream.nominal_fps, count, source, rng)
            frames = torch.from_numpy(stream.read(rows))
        finally:
            stream.close()
        clip = augment(frames, config.img_size(step), config.augmentation, rng)
        is_still = clip.shape[1] == 1 and not config.encoder.separate_images
        return clip.expand(-1, config.encoder.tubelet_size, -1, -1) if is_still else clip

    def _masked(self, clip: Tensor, order: int, step: int, group: int) -> ClipGroup:
        """Draw the masks of some clips `[B, 3, T, H, W]`."""
        config = self._config
        _, _, frames, height, width = clip.shape
        patch, tubelet = config.encoder.patch_size, config.encoder.tubelet_size
        grid = (max(1, frames // tubelet), height // patch, width // patch)
        pairs = []
        for number, mask in enumerate(config.masks):
            sizes = torch.Generator().manual_seed(seed_of(_SIZES, config.seed, step, number))
            places = torch.Generator().manual_seed(
                seed_of(_PLACES, config.seed, step, number, group, order)
            )
            pairs.append(sample_masks(mask, len(clip), grid, sizes, places))
        return ClipGroup(clip, tuple(k for k, _ in pairs), tuple(h for _, h in pairs), order)


def choose_rows(
    length: int,
    video_fps: float | None,
    count: int,
    source: SourceConfig,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose the frames of a clip: evenly apart, from a random start.

    A video that is too short is used from its start, and its last frame is repeated.

    Args:
        length: Frames of the video.
        video_fps: Frames per second that it is played with; needed where the source asks for fps.
        count: Frames of the clip.
        source: How far they are apart.
        rng: Chooses start and jitter.

    Raises:
        ValueError: The source asks for fps, and the video does not say how fast it is played.
    """
    step = float(source.frame_step or 1)
    if source.fps is not None and length > 1:
        if video_fps is None:
            raise ValueError(f"it has no frame rate; use frame_step instead of fps {source.fps}")
        step = max(1.0, math.ceil(video_fps) // source.fps)
    step = max(1.0, step * rng.uniform(*source.step_jitter))
    span = int((count - 1) * step) + 1
    start = int(rng.integers(0, max(1, length - span + 1)))
    rows = start + np.floor(np.arange(count) * step).astype(np.int64)
    last: NDArray[np.int64] = np.minimum(rows, length - 1)
    return last
