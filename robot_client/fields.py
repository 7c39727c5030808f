"""Checks for one field of a wire message each: they refuse, or return the one canonical form.

A check takes the field's name and value and raises `ProtocolError`, saying what came and what is
allowed. The module knows no message.
"""

import math
import reprlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from robot_client import codec
from robot_client.codec import EncodedImage
from robot_client.errors import ProtocolError

POSE_DIM = 7
MAX_HORIZON = 64
MAX_COMMITTED = 4
MAX_ACTION = 10.0  # metres, radians: far beyond what an arm does in a control period
MAX_SEQ = 2**63 - 1

Frame: TypeAlias = npt.NDArray[np.uint8] | EncodedImage
States: TypeAlias = npt.NDArray[np.float64]
Check: TypeAlias = Callable[[str, Any], Any]


def refuse(name: str, value: Any, allowed: str, code: str = "malformed_message") -> ProtocolError:
    """The error that says what came and what is allowed; long values are shortened."""
    return ProtocolError(code, f"{name} is {reprlib.repr(value)[:120]}; {allowed}")


def text(max_length: int, *, min_length: int = 1) -> Check:
    """Unicode text of a bounded number of characters."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not min_length <= len(value) <= max_length:
            raise refuse(name, value, f"a text of {min_length} to {max_length} characters")
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number in low..high; a boolean is none."""

    def check(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise refuse(name, value, f"a whole number in {low}..{high}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in [low, high] as a float; a boolean is none."""

    def check(name: str, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Compared before converting: a whole number beyond a float's range would overflow.
        if not is_number or not -1e308 <= value <= 1e308 or not low <= value <= high:
            raise refuse(name, value, f"a finite number in [{low}, {high}]")
        return float(value)

    return check


def flag(name: str, value: Any) -> bool:
    """True or false, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise refuse(name, value, "true or false")
    return value


def one_of(allowed: tuple[str, ...]) -> Check:
    """One of a few words."""

    def check(name: str, value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise refuse(name, value, f"one of {', '.join(allowed)}")
        return value

    return check


def optional(inner: Check) -> Check:
    """None, or what `inner` accepts."""
    return lambda name, value: None if value is None else inner(name, value)


def sequence(inner: Check, min_length: int, max_length: int) -> Check:
    """A list of a bounded length, each item as `inner` wants it; a tuple comes out."""

    def check(name: str, value: Any) -> tuple[Any, ...]:
        is_fitting = isinstance(value, list | tuple) and min_length <= len(value) <= max_length
        if not is_fitting:
            raise refuse(name, value, f"a list of {min_length} to {max_length} items")
        return tuple(inner(f"{name}[{index}]", item) for index, item in enumerate(value))

    return check


def _rows(
    name: str, value: Any, *, dimensions: int, code: str, max_rows: int = MAX_HORIZON
) -> States:
    """Finite float64 [..., 7]; the array itself, never a list, so that one form exists."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fi":
        raise refuse(name, value, "an array of numbers", code)
    is_shaped = value.ndim == dimensions and value.shape[-1] == POSE_DIM
    if not is_shaped or not 1 <= value.shape[0] <= max_rows:
        shape = "[7]" if dimensions == 1 else f"[1..{max_rows}, 7]"
        raise refuse(name, value.shape, f"shape {shape} is expected", code)
    if not np.isfinite(value).all():
        raise refuse(name, value, "every number must be finite", code)
    return value.astype(np.float64)


def states(name: str, value: Any) -> States:
    """Rows of actions or states: finite float64 [1..MAX_HORIZON, 7]."""
    return _rows(name, value, dimensions=2, code="malformed_message")


def committed(name: str, value: Any) -> States:
    """Actions under way: float64 [1..MAX_COMMITTED, 7] within MAX_ACTION."""
    code = "malformed_message"
    checked = _rows(name, value, dimensions=2, code=code, max_rows=MAX_COMMITTED)
    if (np.abs(checked) > MAX_ACTION).any():
        raise refuse(name, checked.tolist(), f"every number must be within {MAX_ACTION:g}", code)
    return checked


def state(name: str, value: Any) -> States:
    """One state, finite float64 [7], within what an arm on a table can have."""
    checked = _rows(name, value, dimensions=1, code="invalid_state")
    # Generous: an FR3 reaches 0.9 m; a value outside is a unit or a frame mistake.
    limits = np.array([5.0, 5.0, 5.0, 6.5, 6.5, 6.5, 1.1])
    if (np.abs(checked) > limits).any() or checked[6] < -0.1:
        raise refuse(
            name,
            checked.tolist(),
            "metres within 5, radians within 6.5, gripper closedness in 0..1 (0 is open)",
            "invalid_state",
        )
    return checked


def frame(name: str, value: Any) -> Frame:
    """uint8 RGB [H, W, 3], or an `EncodedImage` (also as the map it travels as)."""
    if isinstance(value, EncodedImage):
        value = {"encoding": value.encoding, "data": value.data}
    if isinstance(value, dict):
        encoding, data = value.get("encoding"), value.get("data")
        if encoding not in codec.IMAGE_ENCODINGS or not isinstance(data, bytes) or not data:
            allowed = f"encoding one of {', '.join(codec.IMAGE_ENCODINGS)} and data bytes"
            raise refuse(name, value, allowed, "invalid_frame")
        return EncodedImage(encoding, data)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        raise refuse(name, value, "a uint8 array or {encoding, data}", "invalid_frame")
    if value.ndim != 3 or value.shape[2] != 3:
        raise refuse(name, value.shape, "shape [H, W, 3] is expected", "invalid_frame")
    if not all(1 <= side <= codec.MAX_IMAGE_SIDE_PX for side in value.shape[:2]):
        allowed = f"1 to {codec.MAX_IMAGE_SIDE_PX} px a side"
        raise refuse(name, value.shape, allowed, "invalid_frame")
    return value
