"""Both geometries follow the reference's arithmetic and travel with the model."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from models.checkpoint import load_world_model, save_world_model
from models.config import FrameGeometry, WorldModelConfig, tiny
from models.preprocess import crop_aspect_ratio, preprocess_frames
from models.world_model import WorldModel


def random_frames(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def reference_box(height: int, width: int, narrowest: float, widest: float) -> tuple[int, ...]:
    """Where the reference's random crop ends up when no random draw fits: top, left, height, width."""
    ratio = float(width) / float(height)
    if ratio < narrowest:
        box = (round(width / narrowest), width)
    elif ratio > widest:
        box = (height, round(height * widest))
    else:
        box = (height, width)
    return (height - box[0]) // 2, (width - box[1]) // 2, *box


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (720, 1280, (0, 154, 720, 972)),  # the recordings that V-JEPA 2-AC learned from
        (480, 640, (0, 0, 480, 640)),
        (640, 480, (0, 0, 640, 480)),
        (1280, 720, (160, 0, 960, 720)),
        (101, 203, (0, 33, 101, 136)),
    ],
)
def test_the_squash_crops_to_the_widest_and_narrowest_ratio(
    height: int, width: int, box: tuple[int, ...]
) -> None:
    assert reference_box(height, width, 0.75, 1.35) == box
    rows = torch.arange(height).view(1, height, 1, 1).expand(1, height, width, 1)
    columns = torch.arange(width).view(1, 1, width, 1).expand(1, height, width, 1)
    cropped = crop_aspect_ratio(torch.cat([rows, columns], dim=-1), 0.75, 1.35)
    assert tuple(cropped.shape[1:3]) == box[2:]
    assert tuple(cropped[0, 0, 0].tolist()) == box[:2]


@pytest.mark.parametrize(
    ("geometry", "ratios"), [("squash_1_35", (0.75, 1.35)), ("centre_square", (1.0, 1.0))]
)
@pytest.mark.parametrize("shape", [(72, 128), (48, 64), (130, 70), (33, 33)])
def test_pixels_are_those_of_the_reference(
    geometry: FrameGeometry, ratios: tuple[float, float], shape: tuple[int, int]
) -> None:
    frames = random_frames(2, *shape, 3)
    top, left, height, width = reference_box(*shape, *ratios)
    pixels = frames[:, top : top + height, left : left + width].permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (32, 32), mode="bilinear", align_corners=False)
    mean = 255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(preprocess_frames(frames, (32, 32), geometry), (pixels - mean) / std)


def test_a_frame_that_is_square_looks_the_same_through_both() -> None:
    frames = random_frames(1, 40, 40, 3)
    square = preprocess_frames(frames, (32, 32), "centre_square")
    assert torch.equal(preprocess_frames(frames, (32, 32), "squash_1_35"), square)


def squashing_model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny().model_copy(update={"frame_geometry": "squash_1_35"})).eval()


def test_a_model_looks_through_its_own_geometry() -> None:
    model, frames = squashing_model(), random_frames(1, 36, 64, 3)
    squashed = model.encode(frames)
    wide = crop_aspect_ratio(frames, 0.75, 1.35)
    pixels = F.interpolate(wide.permute(0, 3, 1, 2).float(), (32, 32), mode="bilinear")
    again = model.encode(pixels.round().to(torch.uint8).permute(0, 2, 3, 1))
    assert (squashed - again).abs().mean() < 0.05
    torch.manual_seed(0)
    square = WorldModel(tiny()).eval().encode(frames)
    assert (squashed - square).abs().mean() > 0.1


def test_the_geometry_is_kept_with_the_weights(tmp_path: object) -> None:
    save_world_model(squashing_model(), str(tmp_path))
    assert load_world_model(str(tmp_path)).config.frame_geometry == "squash_1_35"


def test_a_squash_may_have_any_size_and_nothing_else_is_known() -> None:
    values = tiny().model_dump()
    values["encoder"]["img_size"], values["predictor"]["grid_size"] = (16, 64), (2, 8)
    values["frame_geometry"] = "squash_1_35"
    model = WorldModel(WorldModelConfig.model_validate(values))
    assert model.encode(random_frames(1, 30, 50, 3)).shape == (1, 16, 48)
    values["frame_geometry"] = "letterbox"
    with pytest.raises(ValidationError, match="'centre_square' or 'squash_1_35'"):
        WorldModelConfig.model_validate(values)


def test_extreme_frames_keep_at_least_a_pixel() -> None:
    for shape in ((1, 1, 500, 3), (1, 500, 1, 3)):
        clip = preprocess_frames(random_frames(*shape), (16, 16), "squash_1_35")
        assert math.isfinite(float(clip.sum()))


@pytest.mark.gpu
@pytest.mark.parametrize("geometry", ["centre_square", "squash_1_35"])
def test_cuda_gives_the_pixels_of_the_cpu(geometry: FrameGeometry) -> None:
    frames = random_frames(2, 72, 128, 3)
    expected = preprocess_frames(frames, (48, 48), geometry)
    found = preprocess_frames(frames.cuda(), (48, 48), geometry).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
