"""The evaluation transforms against the libraries that the reference resizes with."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InvalidInputError
from models.eval_transforms import preprocess_eval, preprocess_views, resize_short_side

SIZES = [(48, 64), (72, 128), (100, 77), (32, 32), (240, 135)]


def random_frames(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def normalised(pixels: Tensor) -> Tensor:
    """`[T, H, W, 3]` to `[3, T, H, W]`, in the order of operations of the reference."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
    return (pixels.permute(3, 0, 1, 2).float() / 255.0 - mean) / std


def opencv_short_side(frames: Tensor, size: int) -> Tensor:
    height, width = frames.shape[1:3]
    if min(height, width) == size:
        return frames
    target = (
        (size, int(size * height / width)) if width < height else (int(size * width / height), size)
    )
    resized = [cv2.resize(f, target, interpolation=cv2.INTER_LINEAR) for f in frames.numpy()]
    return torch.from_numpy(np.stack(resized))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("short_side", [36, 73, 292])
def test_arrays_are_resized_as_opencv_does_to_the_last_bit(
    size: tuple[int, int], short_side: int
) -> None:
    frames = random_frames(2, *size, 3)
    expected = opencv_short_side(frames, short_side)
    assert torch.equal(resize_short_side(frames, short_side, "opencv"), expected)


@pytest.mark.parametrize("size", SIZES)
def test_one_view_is_the_centre_of_the_resized_frame(size: tuple[int, int]) -> None:
    frames = random_frames(3, *size, 3)
    resized = opencv_short_side(frames, 36)  # int(32 * 256 / 224)
    height, width = resized.shape[1:3]
    top, left = round((height - 32) / 2.0), round((width - 32) / 2.0)
    expected = normalised(resized[:, top : top + 32, left : left + 32])
    torch.testing.assert_close(preprocess_eval(frames, 32), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("crop", "short_side"), [(256, 292), (384, 438)])
def test_published_crops_resize_to_the_published_sides(crop: int, short_side: int) -> None:
    frames = random_frames(1, short_side, short_side + 10, 3)  # is left as it is
    margin = round((short_side - crop) / 2)
    expected = normalised(frames[:, margin : margin + crop, margin + 5 : margin + 5 + crop])
    torch.testing.assert_close(preprocess_eval(frames, crop), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_tensors_are_resized_with_antialiasing(size: tuple[int, int]) -> None:
    frames = random_frames(1, *size, 3)
    height, width = size
    target = (36, int(36 * width / height)) if height <= width else (int(36 * height / width), 36)
    pixels = F.interpolate(
        frames.permute(0, 3, 1, 2).float(), target, mode="bilinear", antialias=True
    )
    expected = frames if min(size) == 36 else pixels.round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(resize_short_side(frames, 36, "antialias"), expected)
    assert preprocess_eval(frames, 32, "antialias").shape == (3, 1, 32, 32)


@pytest.mark.parametrize(("size", "axis"), [((32, 64), 1), ((64, 32), 0)])
def test_views_run_along_the_long_side(size: tuple[int, int], axis: int) -> None:
    frames = random_frames(2, *size, 3)
    views = preprocess_views(frames, 32, views=3)
    assert views.shape == (3, 3, 2, 32, 32)
    for view, start in zip(views, (0, 16, 32), strict=True):
        expected = normalised(frames.narrow(1 + axis, start, 32))
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)


def test_views_of_a_square_are_all_the_same() -> None:
    views = preprocess_views(random_frames(1, 32, 32, 3), 32, views=2)
    assert torch.equal(views[0], views[1])


def test_bad_frames_and_counts_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected uint8"):
        preprocess_eval(torch.zeros(1, 32, 32, 3))
    with pytest.raises(InvalidInputError, match=r"\[B, H, W, 3\]"):
        preprocess_views(random_frames(1, 3, 32, 32))
    with pytest.raises(InvalidInputError, match="1 views"):
        preprocess_views(random_frames(1, 32, 32, 3), 32, views=1)


@pytest.mark.gpu
def test_cuda_resizes_to_the_same_bit() -> None:
    frames = random_frames(2, 72, 128, 3)
    expected = resize_short_side(frames, 292, "opencv")
    assert torch.equal(resize_short_side(frames.cuda(), 292, "opencv").cpu(), expected)
