"""What the control loop asks of a camera: the newest frame, and how old it is."""

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from robot_client.errors import StaleFrameError


@dataclass(frozen=True, eq=False)
class CapturedFrame:
    """One image.

    Attributes:
        frame: uint8 RGB [H, W, 3].
        t_capture: `time.monotonic()` of this machine at capture [s].
    """

    frame: npt.NDArray[np.uint8]
    t_capture: float


class Camera(Protocol):
    """A source of frames; `newest` may be called from several threads."""

    def connect(self) -> None:
        """Start capturing and wait for the first frame. Raises `CameraError` with the remedy."""

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The newest frame. Raises `StaleFrameError` when it is older than `max_age_s`."""

    def disconnect(self) -> None:
        """Stop capturing; harmless when not connected."""


class FrameSlot:
    """Holds the newest frame of a capturing thread for readers in other threads."""

    def __init__(self, name: str) -> None:
        """Name the camera for error messages."""
        self._name = name
        self._changed = threading.Condition()
        self._newest: CapturedFrame | None = None

    def put(self, captured: CapturedFrame) -> None:
        """Replace the frame."""
        with self._changed:
            self._newest = captured
            self._changed.notify_all()

    def wait_for_first(self, timeout_s: float) -> bool:
        """Wait until there is a frame at all; False when the time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._newest is not None, timeout_s)

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The frame, when it is young enough.

        Raises:
            StaleFrameError: There is none, or it is older than `max_age_s`.
        """
        with self._changed:
            captured = self._newest
        if captured is None:
            raise StaleFrameError(f"{self._name} has delivered no frame yet")
        age_s = time.monotonic() - captured.t_capture
        if age_s > max_age_s:
            raise StaleFrameError(
                f"the newest frame of {self._name} is {age_s:.2f} s old, at most {max_age_s:.2f} s "
                "are allowed; check cable, exposure time and the load of this machine"
            )
        return captured
