"""Small pictures of an episode, to be shown beside what was planned there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.questions import Span

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

Frame = NDArray[np.uint8]

PICTURES = 7  # and the last frame
PICTURED_EPISODES = 30  # a page is looked at by a person
WIDTH_PX = 304


@dataclass(frozen=True)
class Thumbnail:
    """One small picture.

    Attributes:
        step: Control step that it was taken at.
        jpeg: The file.
        width_px: Its width; the height follows.
        height_px: Its height.
    """

    step: int
    jpeg: bytes
    width_px: int
    height_px: int


def chosen_steps(asked: Sequence[Span]) -> frozenset[int]:
    """Choose at most `PICTURES` of the steps, evenly."""
    places = np.linspace(0, len(asked) - 1, min(PICTURES, len(asked))).round().astype(int)
    return frozenset(asked[place].step for place in places)


def thumbnail(step: int, frame: Frame) -> Thumbnail:
    """Shrink a frame uint8 RGB `[H, W, 3]` and compress it."""
    import av

    height, width = frame.shape[:2]
    size = (_even(WIDTH_PX), _even(WIDTH_PX * height / width))
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    small = picture.reformat(*size, format="yuvj420p", interpolation="AREA")
    encoder: VideoCodecContext = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
    encoder.options = {"qmin": "3", "qmax": "3"}
    packets = [*encoder.encode(small), *encoder.encode(None)]
    return Thumbnail(step, b"".join(bytes(packet) for packet in packets), *size)


def _even(size: float) -> int:
    return max(2, 2 * round(size / 2))
