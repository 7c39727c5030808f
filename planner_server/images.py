"""Image files from the network to frames. Nothing about the bytes is trusted: the size is read before decoding."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from robot_client.image_header import is_whole, read_format, read_size

MIN_SIDE_PX = 16
MAX_SIDE_PX = 4096
FORMATS = "PNG, JPEG or WebP"


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to a frame: uint8 RGB `[H, W, 3]`.

    Deeper than 8 bits per channel is reduced to 8, grey and CMYK become RGB, transparency is dropped, and a JPEG is
    turned as its EXIF orientation says.

    Args:
        data: The file's bytes.
        name: What the caller calls this image, for messages.

    Raises:
        PlannerError: `invalid_frame`, when the bytes are no such file, are incomplete, or the sides are out of bounds.
    """
    check_image(data, name)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise _corrupt(name) from error
    if bgr is None:
        raise _corrupt(name)
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def check_image(data: bytes, name: str) -> None:
    """Refuse a file by its header and its end, without decoding anything.

    Raises:
        PlannerError: `invalid_frame`.
    """
    if read_format(data) is None:
        raise PlannerError(
            "invalid_frame",
            f"{name} ({len(data)} bytes, starting {data[:4].hex(' ') or 'empty'}) is no image; send {FORMATS}",
        )
    try:
        height, width = read_size(data)
    except ValueError as error:
        raise _corrupt(name) from error
    _check_sides(height, width, name)
    if not is_whole(data):
        raise _corrupt(name)


def media_type_of(data: bytes) -> str:
    """Return the media type of a file that `decode_image` takes."""
    return f"image/{read_format(data)}"


def check_frame(frame: NDArray[np.uint8], name: str) -> None:
    """Refuse a frame that is not uint8 RGB `[H, W, 3]` with sides of 16 to 4096 px.

    Raises:
        PlannerError: `invalid_frame`.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise PlannerError(
            "invalid_frame", f"{name} is {frame.dtype}{frame.shape}; send uint8 RGB [H, W, 3]"
        )
    _check_sides(frame.shape[0], frame.shape[1], name)


def _check_sides(height: int, width: int, name: str) -> None:
    if not (MIN_SIDE_PX <= height <= MAX_SIDE_PX and MIN_SIDE_PX <= width <= MAX_SIDE_PX):
        raise PlannerError(
            "invalid_frame",
            f"{name} is {width} x {height} px; every side must be {MIN_SIDE_PX} to {MAX_SIDE_PX} px. "
            "Resize it; the model looks at a few hundred pixels only.",
        )


def _corrupt(name: str) -> PlannerError:
    return PlannerError(
        "invalid_frame", f"{name} is a broken or incomplete image file; send a whole {FORMATS} file"
    )
