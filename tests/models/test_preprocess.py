"""Frames become what the published weights were shown."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InvalidInputError
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD, crop_centre_square, preprocess_frames


def random_frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def to_pixels(normalised: Tensor) -> Tensor:
    """Undo the normalisation: `[B, 3, H, W]` in 0..255."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (normalised * std.view(3, 1, 1) + mean.view(3, 1, 1)) * 255


@pytest.mark.parametrize("shape", [(2, 72, 128, 3), (1, 128, 96, 3), (1, 33, 33, 3)])
def test_frames_are_cropped_resized_and_normalised_as_the_reference_does(
    shape: tuple[int, ...],
) -> None:
    frames = random_frames(*shape)
    side = min(shape[1:3])
    top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
    square = frames[:, top : top + side, left : left + side].permute(0, 3, 1, 2).float()
    resized = F.interpolate(square, (48, 48), mode="bilinear", align_corners=False)
    channels = [
        (resized[:, channel] - 255 * mean) / (255 * std)
        for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    ]
    torch.testing.assert_close(preprocess_frames(frames, (48, 48)), torch.stack(channels, dim=1))


def test_halving_a_frame_averages_two_by_two_pixels() -> None:
    frames = random_frames(1, 64, 64, 3)
    averaged = frames.view(1, 32, 2, 32, 2, 3).float().mean(dim=(2, 4)).permute(0, 3, 1, 2)
    pixels = to_pixels(preprocess_frames(frames, (32, 32)))
    torch.testing.assert_close(pixels, averaged, atol=1e-3, rtol=0)


def test_a_frame_of_the_right_size_keeps_its_pixels() -> None:
    frames = random_frames(1, 32, 32, 3)
    pixels = to_pixels(preprocess_frames(frames, (32, 32)))
    torch.testing.assert_close(pixels, frames.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_the_centre_of_a_wide_frame_is_kept() -> None:
    frames = torch.zeros(1, 4, 9, 3, dtype=torch.uint8)
    frames[:, :, 2:6] = 1
    square = crop_centre_square(frames)
    assert square.shape == (1, 4, 4, 3)
    assert bool(square.all())


@pytest.mark.parametrize("shape", [(1, 8, 8, 4), (1, 3, 8, 8), (8, 8, 3), (0, 8, 8, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"\[B, H, W, 3\]"):
        preprocess_frames(torch.zeros(shape, dtype=torch.uint8), (8, 8))


def test_frames_that_were_already_scaled_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        preprocess_frames(torch.from_numpy(np.zeros((1, 8, 8, 3), np.float32)), (8, 8))
