"""From camera frames to what encoders take: uint8 in, cropped, resized, ImageNet-normalised out.

The same code serves training and planning, on any device. The geometry is part of a model's
configuration, because weights that learned one geometry see another world through the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import FrameGeometry
from models.errors import InvalidInputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_WHITE = 255.0

_NARROWEST, _WIDEST = 0.75, 1.35  # aspect ratios, width / height, that `squash_1_35` keeps whole


def preprocess_frames(
    frames: Tensor, img_size: tuple[int, int], geometry: FrameGeometry = "centre_square"
) -> Tensor:
    """Crop frames, resize them bilinearly without antialiasing, and normalise.

    `centre_square` is the geometry that V-JEPA 2-AC plans with, `squash_1_35` the one it learned
    from: its random crops could never be drawn and fell back to this. Halving a square frame is the
    average of 2 x 2 pixels.

    Args:
        frames: uint8 RGB `[B, H, W, 3]`.
        img_size: Height and width to resize to [px].
        geometry: What to crop; see `FrameGeometry`.

    Returns:
        float32 `[B, 3, *img_size]` with ImageNet mean and standard deviation taken out.

    Raises:
        InvalidInputError: The frames are not uint8 `[B, H, W, 3]`.
    """
    check_frames(frames)
    pixels = crop_visible(frames, geometry).permute(0, 3, 1, 2).float()
    if pixels.shape[2:] != img_size:
        pixels = F.interpolate(pixels, img_size, mode="bilinear", align_corners=False)
    return normalise_pixels(pixels)


def check_frames(frames: Tensor) -> None:
    """Refuse what is not uint8 RGB `[B, H, W, 3]`.

    Raises:
        InvalidInputError: Names the shape or type.
    """
    if frames.ndim != 4 or frames.shape[3] != len(IMAGENET_MEAN) or 0 in frames.shape:
        raise InvalidInputError(
            f"frames have shape {list(frames.shape)}; expected [B, H, W, 3] in RGB order"
        )
    if frames.dtype != torch.uint8:
        raise InvalidInputError(f"frames are {frames.dtype}; expected uint8, 0 to 255")


def normalise_pixels(pixels: Tensor) -> Tensor:
    """Take ImageNet mean and standard deviation out of pixels `[..., 3, H, W]`, 0 to 255."""
    mean = pixels.new_tensor(IMAGENET_MEAN).view(3, 1, 1) * _WHITE
    std = pixels.new_tensor(IMAGENET_STD).view(3, 1, 1) * _WHITE
    return (pixels - mean) / std


def crop_visible(frames: Tensor, geometry: FrameGeometry) -> Tensor:
    """Return the part of frames `[B, H, W, C]` that a model of this geometry looks at."""
    if geometry == "centre_square":
        return crop_centre_square(frames)
    return crop_aspect_ratio(frames, _NARROWEST, _WIDEST)


def crop_centre_square(frames: Tensor) -> Tensor:
    """Return the largest centred square of frames `[B, H, W, 3]`."""
    return crop_aspect_ratio(frames, 1.0, 1.0)


def crop_aspect_ratio(frames: Tensor, narrowest: float, widest: float) -> Tensor:
    """Return the largest centred part of frames `[B, H, W, 3]` with an aspect ratio in a range.

    Args:
        frames: The frames.
        narrowest: Smallest allowed width / height.
        widest: Largest allowed width / height.
    """
    height, width = frames.shape[1:3]
    if width / height < narrowest:
        crop_height, crop_width = round(width / narrowest), width
    elif width / height > widest:
        crop_height, crop_width = height, round(height * widest)
    else:
        crop_height, crop_width = height, width
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return frames[:, top : top + crop_height, left : left + crop_width]
