"""What OpenCV can open: a USB camera, a video file, a network stream, a GStreamer pipeline."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.capturing import CapturingCamera
from robot_client.cameras.settings import CameraSettings
from robot_client.errors import CameraError

logger = logging.getLogger(__name__)

_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 5000, 2000
_MANUAL, _AUTOMATIC = 1.0, 3.0  # V4L2's menu of exposure modes


class OpenCvCamera(CapturingCamera):
    """Newest frame of a device or stream, or of a file played at its own speed, over and over.

    Args:
        source: Device number (0 for the first camera), path of a video file, a URL such as
            rtsp://..., or "gst:" and a GStreamer pipeline that ends in appsink.
        settings: Applied to devices; streams and files are taken as they come.
    """

    def __init__(self, source: int | Path | str, settings: CameraSettings | None = None) -> None:
        super().__init__(f"camera {source}")
        self._source = source
        self._settings = settings or CameraSettings()
        self._capture_device: Any = None
        self._lock = threading.Lock()
        self._period_s = 0.0
        self._due = 0.0

    def _open(self) -> None:
        with self._lock:
            capture = self._new_capture()
            if not capture.isOpened():
                capture.release()
                raise CameraError(f"{self.name} cannot be opened; {self._hint()}")
            if isinstance(self._source, int):
                _apply(capture, self._settings, self.name)
            if isinstance(self._source, Path):
                self._period_s = 1.0 / (capture.get(cv2.CAP_PROP_FPS) or 30.0)
                self._due = time.monotonic()
            self._capture_device = capture

    def _read(self) -> CapturedFrame | None:
        has_frame, bgr = self._capture_device.read()
        if not has_frame and isinstance(self._source, Path):
            self._capture_device.set(cv2.CAP_PROP_POS_FRAMES, 0)
            has_frame, bgr = self._capture_device.read()
        if not has_frame:
            return None
        now = time.monotonic()
        if self._period_s:
            self._due = max(self._due + self._period_s, now)
            self._ending.wait(self._due - now)
        return CapturedFrame(np.ascontiguousarray(bgr[..., ::-1]), now)

    def _close(self) -> None:
        with self._lock:
            if self._capture_device is not None:
                self._capture_device.release()
                self._capture_device = None

    def _new_capture(self) -> Any:
        source = self._source
        if isinstance(source, int):
            return cv2.VideoCapture(source)
        if isinstance(source, Path):
            return cv2.VideoCapture(str(source))
        if source.startswith("gst:"):
            return cv2.VideoCapture(source.removeprefix("gst:"), cv2.CAP_GSTREAMER)
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            _READ_TIMEOUT_MS,
        ]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)

    def _hint(self) -> str:
        if isinstance(self._source, int):
            return "`robot-client cameras` lists those there are; see that no other program uses it"
        if isinstance(self._source, Path):
            return "see that the file exists and is a video"
        if self._source.startswith("gst:"):
            return "try the pipeline with gst-launch-1.0, and see that this OpenCV knows GStreamer"
        return "try the address with ffplay; is the stream's user and password in it?"


def _apply(capture: Any, settings: CameraSettings, name: str) -> None:
    """Set what is asked for; what the driver does not take is said."""
    wanted: list[tuple[int, float | None, str]] = [
        (cv2.CAP_PROP_FRAME_WIDTH, settings.width, "width"),
        (cv2.CAP_PROP_FRAME_HEIGHT, settings.height, "height"),
        (cv2.CAP_PROP_FPS, settings.fps, "fps"),
        (cv2.CAP_PROP_BUFFERSIZE, 1.0, "buffer size"),
    ]
    automatic = _AUTOMATIC if settings.exposure is None else _MANUAL
    wanted += [(cv2.CAP_PROP_AUTO_EXPOSURE, automatic, "automatic exposure")]
    wanted += [(cv2.CAP_PROP_EXPOSURE, settings.exposure, "exposure")]
    wanted += [(cv2.CAP_PROP_GAIN, settings.gain, "gain")]
    fixed = 0.0 if settings.white_balance_k is not None else 1.0
    wanted += [(cv2.CAP_PROP_AUTO_WB, fixed, "automatic white balance")]
    wanted += [(cv2.CAP_PROP_WB_TEMPERATURE, settings.white_balance_k, "white balance")]
    for key, value, label in wanted:
        if value is not None and not capture.set(key, value):
            logger.warning("%s does not take %s = %g", name, label, value)
