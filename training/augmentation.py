"""From the decoded frames of a clip to what the encoder takes, with the randomness of training."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.preprocess import normalise_pixels, preprocess_frames
from models.timm_encoder import import_timm
from training.pretrain_config import AugmentationConfig

_TRIES = 10
_OPERATIONS = 4  # of RandAugment, as in the reference's `rand-m7-n4`


def augment(
    frames: Tensor,
    img_size: tuple[int, int],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> Tensor:
    """Crop, resize, distort and normalise a clip, all frames alike.

    Args:
        frames: uint8 RGB `[T, H, W, 3]`.
        img_size: Height and width to resize to [px].
        config: What to do.
        rng: All randomness comes from here.

    Returns:
        float32 `[3, T, *img_size]`, ImageNet-normalised.
    """
    if config.random_augment:
        frames = _random_augment(frames, config.random_augment, rng)
    if config.crop_scale is None:
        pixels = preprocess_frames(frames, img_size)
    else:
        top, left, height, width = random_crop(frames.shape[1:3], config, rng)
        cropped = frames[:, top : top + height, left : left + width]
        # As the reference: bilinear, without antialiasing.
        pixels = F.interpolate(
            cropped.permute(0, 3, 1, 2).float(), img_size, mode="bilinear", align_corners=False
        )
        pixels = normalise_pixels(pixels)
    if config.flip and rng.random() < 0.5:
        pixels = pixels.flip(-1)
    if rng.random() < config.erase:
        pixels = _erase(pixels, rng)
    return pixels.transpose(0, 1).contiguous()


def random_crop(
    size: tuple[int, ...], config: AugmentationConfig, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a rectangle by area and aspect ratio; the largest centred one if none fits.

    Args:
        size: Height and width of the frame [px].
        config: Ranges to draw from.
        rng: Source of randomness.

    Returns:
        Top, left, height and width [px].
    """
    if config.crop_scale is None:
        raise ValueError("crop_scale is None: there is no random crop")
    height, width = size
    low, high = config.crop_aspect_ratio
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*config.crop_scale)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(0, height - crop_height + 1))
            left = int(rng.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width = round(min(width, height * high))
    crop_height = round(min(height, width / low))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _random_augment(frames: Tensor, magnitude: int, rng: np.random.Generator) -> Tensor:
    transform = _torchvision().RandAugment(_OPERATIONS, magnitude)
    with _seeded(rng):
        changed: Tensor = transform(frames.permute(0, 3, 1, 2))
    return changed.permute(0, 2, 3, 1)


def _erase(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    transform = _torchvision().RandomErasing(p=1.0, value="random")
    with _seeded(rng):
        erased: Tensor = transform(pixels)
    return erased


def _torchvision() -> Any:
    import_timm()  # teaches torchvision to load beside a torch of another build
    return import_module("torchvision.transforms.v2")


class _seeded:  # noqa: N801  reads as a word
    """Let torch's global randomness follow a generator, and be as before afterwards."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(0, 2**63 - 1))

    def __enter__(self) -> None:
        self._state = torch.get_rng_state()
        torch.manual_seed(self._seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._state)
