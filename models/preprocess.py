"""From camera frames to what the encoder takes, with the geometry that V-JEPA 2-AC plans with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InvalidInputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_WHITE = 255.0


def preprocess_frames(frames: Tensor, img_size: tuple[int, int]) -> Tensor:
    """Crop the centre square, resize it bilinearly without antialiasing, and normalise.

    Halving a frame this way is the average of 2 x 2 pixels.

    Args:
        frames: uint8 RGB `[B, H, W, 3]`.
        img_size: Height and width to resize to [px].

    Returns:
        float32 `[B, 3, *img_size]` with ImageNet mean and standard deviation taken out.

    Raises:
        InvalidInputError: The frames are not uint8 `[B, H, W, 3]`.
    """
    if frames.ndim != 4 or frames.shape[3] != len(IMAGENET_MEAN) or 0 in frames.shape:
        raise InvalidInputError(
            f"frames have shape {list(frames.shape)}; expected [B, H, W, 3] in RGB order"
        )
    if frames.dtype != torch.uint8:
        raise InvalidInputError(f"frames are {frames.dtype}; expected uint8, 0 to 255")
    pixels = crop_centre_square(frames).permute(0, 3, 1, 2).float()
    if pixels.shape[2:] != img_size:
        pixels = F.interpolate(pixels, img_size, mode="bilinear", align_corners=False)
    mean = pixels.new_tensor(IMAGENET_MEAN).view(3, 1, 1) * _WHITE
    std = pixels.new_tensor(IMAGENET_STD).view(3, 1, 1) * _WHITE
    return (pixels - mean) / std


def crop_centre_square(frames: Tensor) -> Tensor:
    """Return the largest centred square of frames `[B, H, W, 3]`."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]
