"""Image files from the network to frames. Nothing about the bytes is trusted: the size is read before decoding."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError

MIN_SIDE_PX = 16
MAX_SIDE_PX = 4096
FORMATS = "PNG, JPEG or WebP"

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = (
    1024  # where the end marker of a whole file is looked for; some cameras append padding
)


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to a frame: uint8 RGB `[H, W, 3]`.

    Args:
        data: The file's bytes.
        name: What the caller calls this image, for messages.

    Raises:
        PlannerError: `invalid_frame`, when the bytes are no such file, are incomplete, or the sides are out of bounds.
    """
    height, width = _read_size(data, name)
    _check_sides(height, width, name)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise _corrupt(name) from error
    if bgr is None:
        raise _corrupt(name)
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


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


def _read_size(data: bytes, name: str) -> tuple[int, int]:
    """Return height and width [px] as the file's header states them, without decoding anything."""
    try:
        if data.startswith(_PNG_MAGIC):
            return _png_size(data)
        if data.startswith(_JPEG_MAGIC):
            return _jpeg_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
    except (struct.error, IndexError, ValueError) as error:
        raise _corrupt(name) from error
    raise PlannerError(
        "invalid_frame",
        f"{name} ({len(data)} bytes, starting {data[:4].hex(' ') or 'empty'}) is no image; send {FORMATS}",
    )


def _png_size(data: bytes) -> tuple[int, int]:
    if b"IEND" not in data[-_TAIL_BYTES:]:
        raise ValueError("no end chunk")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int]:
    # OpenCV fills the missing part of a truncated file with grey and says nothing.
    if _JPEG_END not in data[-_TAIL_BYTES:]:
        raise ValueError("no end marker")
    position = 2
    while True:
        marker, length = struct.unpack_from(">xBH", data, position)
        if data[position] != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # padding before a marker
            position += 1
            continue
        # SOF0..SOF15 carry the size; C4, C8 and CC share the range but are other segments.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 2 + length


def _webp_size(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) or len(data) < 30:
        raise ValueError("shorter than it says")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError("unknown first chunk")
    return height, width
