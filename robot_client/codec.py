"""Bytes to plain values and back: msgpack, with numpy arrays as one extension type.

Never pickle: what arrives is data from a network. Every size is bounded before memory is taken, and
whatever the bytes are, the only error raised is `ProtocolError`. This module knows no message type.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import msgpack
import numpy as np
import numpy.typing as npt

from robot_client import image_header
from robot_client.errors import ProtocolError

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_ARRAY_DIMENSIONS = 4
MAX_ARRAY_ELEMENTS = 16 * 1024 * 1024
MAX_IMAGE_SIDE_PX = 4096
ARRAY_EXT_TYPE = 1

DTYPES = ("|u1", "<i8", "<f4", "<f8")
IMAGE_ENCODINGS = ("jpeg", "png")

# Real messages hold a handful of small maps and lists; the heavy parts are arrays and images.
_MAX_CONTAINERS = 64
_MAX_CONTAINER_LENGTH = 64
_MAX_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True)
class EncodedImage:
    """A compressed RGB image as it travels: `{encoding, data}`.

    Attributes:
        encoding: "jpeg" or "png".
        data: The file's bytes.
    """

    encoding: str
    data: bytes

    def decode(self) -> npt.NDArray[np.uint8]:
        """Decompress to uint8 RGB [H, W, 3].

        Raises:
            ProtocolError: `invalid_frame`, when the bytes are no such image or its sides exceed
                `MAX_IMAGE_SIDE_PX`. The sides are read from the header, before memory is taken.
        """
        try:
            height, width = image_header.read_size(self.data)
        except ValueError as error:
            raise ProtocolError("invalid_frame", f"broken {self.encoding}: {error}") from error
        if not 1 <= min(height, width) <= max(height, width) <= MAX_IMAGE_SIDE_PX:
            raise ProtocolError(
                "invalid_frame",
                f"{self.encoding} of {height} x {width} px; at most {MAX_IMAGE_SIDE_PX} px a side",
            )
        try:
            bgr = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise ProtocolError("invalid_frame", f"broken {self.encoding}: {error}") from error
        if bgr is None:
            raise ProtocolError("invalid_frame", f"{len(self.data)} bytes are no {self.encoding}")
        return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def encode_image(frame: npt.NDArray[np.uint8], encoding: str, quality: int = 95) -> EncodedImage:
    """Compress a uint8 RGB [H, W, 3] frame; `quality` in 1..100 concerns JPEG only."""
    suffix = {"jpeg": ".jpg", "png": ".png"}[encoding]
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpeg" else []
    is_encoded, data = cv2.imencode(suffix, np.ascontiguousarray(frame[..., ::-1]), parameters)
    if not is_encoded:
        raise ProtocolError("invalid_frame", f"a frame of shape {frame.shape} cannot be encoded")
    return EncodedImage(encoding, data.tobytes())


def pack(values: dict[str, Any]) -> bytes:
    """Serialise a map of plain values, arrays and images.

    Raises:
        ProtocolError: `too_large` beyond `MAX_MESSAGE_BYTES`, `malformed_message` for other types.
    """
    try:
        payload: bytes = msgpack.packb(values, default=_pack_special, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError("malformed_message", f"cannot be packed: {error}") from error
    _check_size(payload)
    return payload


def unpack(payload: bytes) -> dict[str, Any]:
    """Parse one message's bytes to a map; arrays come out as owned, writable numpy arrays.

    Raises:
        ProtocolError: `too_large`, or `malformed_message` for anything that is not one map.
    """
    _check_size(payload)
    count = _ContainerCount()
    try:
        values = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            ext_hook=_unpack_extension,
            list_hook=count,
            object_hook=count,
            max_str_len=_MAX_TEXT_BYTES,
            max_bin_len=MAX_MESSAGE_BYTES,
            max_ext_len=MAX_MESSAGE_BYTES,
            max_array_len=_MAX_CONTAINER_LENGTH,
            max_map_len=_MAX_CONTAINER_LENGTH,
        )
    except ProtocolError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        text = f"not one msgpack message: {type(error).__name__}: {str(error)[:200]}"
        raise ProtocolError("malformed_message", text) from error
    if not isinstance(values, dict):
        raise ProtocolError("malformed_message", f"a map is expected, not {type(values).__name__}")
    return values


class _ContainerCount:
    """Counts lists and maps while parsing, so that nesting cannot multiply a message's memory."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, container: Any) -> Any:
        self._seen += 1
        if self._seen > _MAX_CONTAINERS:
            raise ProtocolError("malformed_message", f"more than {_MAX_CONTAINERS} lists and maps")
        return container


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ProtocolError(
            "too_large",
            f"{len(payload)} bytes; at most {MAX_MESSAGE_BYTES}. Send smaller frames or JPEG.",
        )


def _pack_special(value: Any) -> Any:
    if isinstance(value, EncodedImage):
        return {"encoding": value.encoding, "data": value.data}
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} has no place on the wire")
    if value.dtype.str not in DTYPES:
        raise TypeError(f"dtype {value.dtype.str} is not one of {', '.join(DTYPES)}")
    data = np.ascontiguousarray(value).tobytes()
    body = msgpack.packb((value.dtype.str, list(value.shape), data), use_bin_type=True)
    return msgpack.ExtType(ARRAY_EXT_TYPE, body)


def _unpack_extension(code: int, body: bytes) -> npt.NDArray[Any]:
    if code != ARRAY_EXT_TYPE:
        raise ProtocolError("malformed_message", f"extension type {code}; only {ARRAY_EXT_TYPE}")
    parts = msgpack.unpackb(
        body,
        raw=False,
        max_str_len=8,
        max_bin_len=MAX_MESSAGE_BYTES,
        max_array_len=MAX_ARRAY_DIMENSIONS,
        max_map_len=0,
        max_ext_len=0,
    )
    if not isinstance(parts, list) or len(parts) != 3:
        raise ProtocolError("malformed_message", "an array is (dtype, shape, bytes)")
    dtype, shape, data = parts
    if dtype not in DTYPES:
        raise ProtocolError("malformed_message", f"dtype {dtype!r}; one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ProtocolError("malformed_message", f"array shape {shape!r}")
    elements = math.prod(shape)
    if elements > MAX_ARRAY_ELEMENTS:
        raise ProtocolError("too_large", f"{elements} elements; at most {MAX_ARRAY_ELEMENTS}")
    if not isinstance(data, bytes) or len(data) != elements * np.dtype(dtype).itemsize:
        raise ProtocolError("malformed_message", f"the bytes do not fill shape {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape).copy()
