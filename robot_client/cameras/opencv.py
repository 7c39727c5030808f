"""A USB camera or a video file, through OpenCV, read by a thread so that frames never queue up."""

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robot_client.cameras.camera import CapturedFrame, FrameSlot
from robot_client.errors import CameraError

_FIRST_FRAME_TIMEOUT_S = 5.0
_RETRY_S = 0.05


class OpenCvCamera:
    """Newest frame of a capture device, or of a file played at its own speed, over and over.

    Args:
        source: Device number (0 for the first camera) or path of a video file.
    """

    def __init__(self, source: int | Path) -> None:
        self._source = source
        self._slot = FrameSlot(f"camera {source}")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def connect(self) -> None:
        """Open the source and wait for its first frame.

        Raises:
            CameraError: It cannot be opened or stays dark.
        """
        is_device = isinstance(self._source, int)
        capture = cv2.VideoCapture(self._source if is_device else str(self._source))
        if not capture.isOpened():
            known = "try another number, and see that no other program uses it"
            hint = known if is_device else "see that the file exists and is a video"
            raise CameraError(f"camera {self._source!r} cannot be opened; {hint}")
        self._ending.clear()
        self._thread = threading.Thread(
            target=self._capture, args=(capture,), name="camera", daemon=True
        )
        self._thread.start()
        if not self._slot.wait_for_first(_FIRST_FRAME_TIMEOUT_S):
            self.disconnect()
            raise CameraError(f"camera {self._source!r} opens but delivers no frame")

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The newest frame, at most `max_age_s` old."""
        return self._slot.newest(max_age_s)

    def disconnect(self) -> None:
        """End the thread, free the device."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(timeout=2.0)
            self._thread = None

    def _capture(self, capture: Any) -> None:
        is_file = not isinstance(self._source, int)
        period_s = 1.0 / (capture.get(cv2.CAP_PROP_FPS) or 30.0) if is_file else 0.0
        while not self._ending.is_set():
            has_frame, bgr = capture.read()
            if has_frame:
                rgb = np.ascontiguousarray(bgr[..., ::-1])
                self._slot.put(CapturedFrame(rgb, time.monotonic()))
            elif is_file:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            else:
                self._ending.wait(_RETRY_S)  # a gap; readers see the frame grow old
            self._ending.wait(period_s)
        capture.release()
