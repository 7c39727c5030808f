"""The transforms that published probes are evaluated with, uint8 in, on any device.

One view: the short side is resized to 256/224 of the crop, and the centre is cropped. Several views:
the short side is resized to the crop, and squares are taken along the long side.
The reference resizes arrays with OpenCV, whose 8-bit arithmetic is repeated here to the last bit,
and tensors with an antialiased filter; both exist, and probes were evaluated with the first.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InvalidInputError
from models.preprocess import check_frames, normalise_pixels

ResizeFilter = Literal["opencv", "antialias"]

_SHORT_SIDE_RATIO = 256 / 224
_WEIGHT_SCALE = 2048  # OpenCV's fixed-point weights have 11 bits


def preprocess_eval(
    frames: Tensor, crop_size: int = 256, resize: ResizeFilter = "opencv"
) -> Tensor:
    """Resize, crop the centre and normalise, as the hub's preprocessor does.

    Args:
        frames: uint8 RGB frames of one clip `[T, H, W, 3]`.
        crop_size: Side of the square that comes out [px].
        resize: `opencv` as for arrays, `antialias` as for tensors.

    Returns:
        The clip, float32 `[3, T, crop_size, crop_size]`.

    Raises:
        InvalidInputError: The frames are not uint8 `[T, H, W, 3]`.
    """
    check_frames(frames)
    pixels = resize_short_side(frames, int(crop_size * _SHORT_SIDE_RATIO), resize)
    height, width = pixels.shape[1:3]
    top, left = round((height - crop_size) / 2), round((width - crop_size) / 2)
    return _to_clip(pixels[:, top : top + crop_size, left : left + crop_size])


def preprocess_views(
    frames: Tensor, crop_size: int = 256, views: int = 3, resize: ResizeFilter = "opencv"
) -> Tensor:
    """Resize the short side to the crop and take squares along the long side.

    Args:
        frames: uint8 RGB frames of one clip `[T, H, W, 3]`.
        crop_size: Side of the squares [px].
        views: How many squares, from one end to the other; at least 2.
        resize: As in `preprocess_eval`.

    Returns:
        The clips, float32 `[views, 3, T, crop_size, crop_size]`.

    Raises:
        InvalidInputError: The frames are not uint8 `[T, H, W, 3]`, or too few views are asked for.
    """
    check_frames(frames)
    if views < 2:
        raise InvalidInputError(f"{views} views; ask for 2 or more, or use preprocess_eval")
    pixels = resize_short_side(frames, crop_size, resize)
    height, width = pixels.shape[1:3]
    step = (max(height, width) - crop_size) // (views - 1)
    crops = []
    for start in (view * step for view in range(views)):
        top, left = (start, 0) if height > width else (0, start)
        crops.append(_to_clip(pixels[:, top : top + crop_size, left : left + crop_size]))
    return torch.stack(crops)


def resize_short_side(frames: Tensor, size: int, resize: ResizeFilter) -> Tensor:
    """Resize frames uint8 `[T, H, W, 3]` so that their shorter side is `size` [px]."""
    height, width = frames.shape[1:3]
    if min(height, width) == size:
        return frames
    if width < height:
        new_height, new_width = int(size * height / width), size
    else:
        new_height, new_width = size, int(size * width / height)
    if resize == "opencv":
        return _resize_opencv(frames, new_height, new_width)
    pixels = frames.permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (new_height, new_width), mode="bilinear", antialias=True)
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1)


def _to_clip(pixels: Tensor) -> Tensor:
    return normalise_pixels(pixels.permute(0, 3, 1, 2).float()).transpose(0, 1)


def _resize_opencv(frames: Tensor, new_height: int, new_width: int) -> Tensor:
    """Resize uint8 `[T, H, W, 3]` bilinearly with OpenCV's fixed-point rounding."""
    height, width = frames.shape[1:3]
    # Columns beyond the image count fully, rows are repeated: they differ in how they round.
    first, second, fraction = _taps(width, new_width, frames.device)
    outside = (first < 0) | (first >= width - 1)
    near, far = _weights(fraction.masked_fill(outside, 0.0))
    pixels = frames.int()
    first, second = first.clamp(0, width - 1), second.clamp(0, width - 1)
    rows = pixels[:, :, first] * near[:, None] + pixels[:, :, second] * far[:, None]
    rows >>= 4

    first, second, fraction = _taps(height, new_height, frames.device)
    near, far = (weight[:, None, None] for weight in _weights(fraction))
    first, second = first.clamp(0, height - 1), second.clamp(0, height - 1)
    total = (rows[:, first] * near >> 16) + (rows[:, second] * far >> 16)
    return (total + 2 >> 2).clamp(0, 255).to(torch.uint8)


def _taps(size: int, new_size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two neighbours of every new pixel, and how far it lies between them."""
    scale = 1.0 / (new_size / size)
    # Computed on the CPU in the types OpenCV uses, so that every device rounds alike.
    position = ((torch.arange(new_size, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    first = position.floor()
    index = first.long().to(device)
    return index, index + 1, (position - first).to(device)


def _weights(fraction: Tensor) -> tuple[Tensor, Tensor]:
    near, far = 1.0 - fraction, fraction
    return (near * _WEIGHT_SCALE).round().int(), (far * _WEIGHT_SCALE).round().int()
