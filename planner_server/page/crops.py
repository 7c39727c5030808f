"""What is left of an image when the model looks at it: cropped and resized by the very code that planning uses."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import torch
from torch import Tensor

from models.config import FrameGeometry
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD, crop_visible, preprocess_frames
from planner_server.images import decode_image
from planner_server.plan_request import Frame

_WHITE = 255.0


@dataclass(frozen=True)
class Crop:
    """What the model sees of an image.

    Attributes:
        picture: PNG file of the model's frame size.
        box: Left, top, right and bottom of the part it is made from [px].
        size: Width and height of the whole image [px].
    """

    picture: bytes
    box: tuple[int, int, int, int]
    size: tuple[int, int]


def crop_of(data: bytes, frame_size: tuple[int, int], geometry: FrameGeometry) -> Crop:
    """Show an image file as the model sees it.

    Args:
        data: PNG, JPEG or WebP.
        frame_size: Height and width that the model sees [px].
        geometry: What it crops.

    Raises:
        PlannerError: `invalid_frame`.
    """
    image = decode_image(data, "image")
    seen = pixels_seen(image, frame_size, geometry)
    picture = bytes(cv2.imencode(".png", seen.numpy()[..., ::-1])[1].tobytes())
    height, width = image.shape[:2]
    return Crop(picture, box_of(height, width, geometry), (width, height))


def pixels_seen(image: Frame, frame_size: tuple[int, int], geometry: FrameGeometry) -> Tensor:
    """Return what the model sees of an image `[H, W, 3]`, as uint8 RGB `[*frame_size, 3]` again."""
    normalised = preprocess_frames(torch.from_numpy(image)[None], frame_size, geometry)[0]
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    pixels = (normalised * std + mean) * _WHITE
    return pixels.round().clamp(0, _WHITE).byte().permute(1, 2, 0).contiguous()


def box_of(height: int, width: int, geometry: FrameGeometry) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom [px] of what is looked at, by cropping the coordinates themselves."""
    rows = torch.arange(height).view(1, height, 1, 1).expand(1, height, width, 1)
    columns = torch.arange(width).view(1, 1, width, 1).expand(1, height, width, 1)
    y, x = crop_visible(rows, geometry), crop_visible(columns, geometry)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
