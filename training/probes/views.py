"""Which frames of a video a probe sees, and which parts of them (arXiv 2506.09985, section 4).

A video is looked at in S segments spread over its length, each a clip of T frames, and in V squares
along the longer side. Segments are told together, views are judged one by one.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from typing_extensions import Self

from models.config import EncoderConfig, FrozenConfig
from models.eval_transforms import ResizeFilter, preprocess_eval, preprocess_views
from models.preprocess import preprocess_frames
from training.augmentation import augment
from training.errors import ConfigurationError, DataError
from training.pretrain_config import AugmentationConfig


class ClipConfig(FrozenConfig):
    """The clips of a video: frames x step x segments x views."""

    frames: PositiveInt = Field(default=16, description="Frames of a clip; an image is repeated.")
    frame_step: PositiveInt | None = Field(default=None, description="Every n-th frame.")
    fps: PositiveFloat | None = Field(default=None, description="Frames per second; not both.")
    segments: PositiveInt = Field(default=1, description="Clips over the length of a video.")
    views: PositiveInt = Field(
        default=1, description="Squares that validation looks at; training looks at one."
    )
    resolution: PositiveInt | None = Field(
        default=None, description="Side of the square [px]; None: the encoder's."
    )
    geometry: Literal["published", "centre_square"] = Field(
        default="published",
        description="A single view as the published evaluations cut it (7/8 of the shorter side), "
        "or the whole centre square, as planning sees it.",
    )
    resize: ResizeFilter = Field(default="opencv", description="Filter; see `preprocess_eval`.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.frame_step is not None and self.fps is not None:
            raise ValueError("give fps or frame_step, not both")
        if self.geometry != "published" and self.views > 1:
            raise ValueError(f"geometry {self.geometry!r} has one view, not {self.views}")
        return self

    def side_px(self, encoder: EncoderConfig) -> int:
        """Return the side of the square that an encoder gets [px].

        Raises:
            ConfigurationError: The encoder cannot take such clips.
        """
        side = self.resolution or encoder.img_size[0]
        if side % encoder.patch_size or self.frames % encoder.tubelet_size:
            raise ConfigurationError(
                f"clips.resolution {side} px and clips.frames {self.frames}: the encoder takes "
                f"multiples of {encoder.patch_size} px (it learned from {encoder.img_size[0]}) and "
                f"of {encoder.tubelet_size} frames"
            )
        if encoder.rope is None and (side, side) != encoder.img_size:
            raise ConfigurationError(
                f"clips.resolution {side}: an encoder without rotary embedding takes "
                f"{encoder.img_size[0]} px only"
            )
        return side


def segment_rows(
    length: int, video_fps: float | None, clips: ClipConfig, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """Choose the frames of every segment.

    The video is divided into as many parts as there are segments, and every clip begins somewhere
    in its part, in evaluation at its start. Where parts are too short, clips overlap, evenly spread.
    A video that is shorter than one clip is used from its start, and its last frame is repeated.

    Args:
        length: Frames of the video.
        video_fps: Its playback rate [1/s]; needed where `clips.fps` is given.
        clips: What to cut.
        rng: Chooses the start within each part; None: evaluation.

    Returns:
        Rows `[S, T]`.

    Raises:
        DataError: `fps` is asked for, and the video has no rate; or it has no frames.
    """
    if length < 1:
        raise DataError("it has no frames")
    step = _frame_step(length, video_fps, clips)
    span = clips.frames * step
    part = length // clips.segments
    if part >= span:
        starts = np.arange(clips.segments) * part
        if rng is not None:
            starts = starts + rng.integers(0, part - span + 1, clips.segments)
    else:
        last = max(0, length - span)
        starts = np.linspace(0, last, clips.segments).astype(np.int64)
        if rng is not None and clips.segments == 1:
            starts = rng.integers(0, last + 1, 1)
    # As published: spread from the first frame of the span to the one after its end, which is cut back.
    within = np.linspace(0, span, clips.frames).astype(np.int64).clip(max=span - 1)
    rows = starts[:, None] + within
    chosen: NDArray[np.int64] = np.minimum(rows, length - 1).astype(np.int64)
    return chosen


def evaluation_views(frames: Tensor, clips: ClipConfig, side_px: int) -> Tensor:
    """Cut all views out of every segment.

    Args:
        frames: uint8 RGB `[S, T, H, W, 3]`.
        clips: How.
        side_px: Side of the squares [px].

    Returns:
        float32 `[V, S, 3, T, side, side]`, ImageNet-normalised.
    """
    segments = []
    for segment in frames:
        if clips.views > 1:
            segments.append(preprocess_views(segment, side_px, clips.views, clips.resize))
        elif clips.geometry == "published":
            segments.append(preprocess_eval(segment, side_px, clips.resize).unsqueeze(0))
        else:
            pixels = preprocess_frames(segment, (side_px, side_px))
            segments.append(pixels.transpose(0, 1).unsqueeze(0))
    return torch.stack(segments, dim=1)


def training_view(
    frames: Tensor, augmentation: AugmentationConfig, side_px: int, rng: np.random.Generator
) -> Tensor:
    """Augment every segment `[S, T, H, W, 3]` by itself, giving one view `[1, S, 3, T, side, side]`."""
    size = side_px, side_px
    return torch.stack([augment(one, size, augmentation, rng) for one in frames]).unsqueeze(0)


def _frame_step(length: int, video_fps: float | None, clips: ClipConfig) -> int:
    if clips.fps is None or length == 1:
        return clips.frame_step or 1
    if video_fps is None:
        raise DataError(f"it has no frame rate; use frame_step instead of fps {clips.fps:g}")
    return max(1, int(math.ceil(video_fps) // clips.fps))
