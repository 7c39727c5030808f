"""What the model will see of a frame: cropped and resized as the server does it, without torch."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Geometry = Literal["centre_square", "squash_1_35"]

#: Aspect ratios, width / height, that each geometry keeps whole.
_KEPT: dict[str, tuple[float, float]] = {"centre_square": (1.0, 1.0), "squash_1_35": (0.75, 1.35)}


def crop_box(height: int, width: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """The part of a frame that is used: top, left, height, width [px]."""
    narrowest, widest = _KEPT[geometry]
    used_width = min(width, round(height * widest))
    used_height = min(height, round(width / narrowest))
    return (height - used_height) // 2, (width - used_width) // 2, used_height, used_width


def model_view(frame: Frame, size: tuple[int, int], geometry: Geometry) -> Frame:
    """A frame as the model sees it, uint8 RGB [*size, 3]; bilinear, without antialiasing."""
    top, left, height, width = crop_box(frame.shape[0], frame.shape[1], geometry)
    cropped = frame[top : top + height, left : left + width]
    resized = cv2.resize(cropped, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def preview(frame: Frame, size: tuple[int, int], geometry: Geometry) -> Frame:
    """The frame with the crop drawn in, and beside it the model's view, as large as the frame."""
    top, left, height, width = crop_box(frame.shape[0], frame.shape[1], geometry)
    drawn = frame.copy()
    cv2.rectangle(drawn, (left, top), (left + width - 1, top + height - 1), (255, 160, 0), 2)
    view = model_view(frame, size, geometry)
    side = frame.shape[0]
    enlarged = cv2.resize(
        view, (round(side * size[1] / size[0]), side), interpolation=cv2.INTER_NEAREST
    )
    return np.hstack([drawn, np.asarray(enlarged, np.uint8)])
