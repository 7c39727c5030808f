"""Intel RealSense colour stream; needs `pip install .[realsense]`, imported only when it is used."""

import time
from typing import Any

import numpy as np

from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.capturing import CapturingCamera
from robot_client.cameras.settings import CameraSettings
from robot_client.errors import CameraError

#: pyrealsense2 brings everything along but this.
USB_REMEDY = "sudo apt install libusb-1.0-0"

_READ_TIMEOUT_MS = 1000
_DEFAULT_SIZE, _DEFAULT_FPS = (640, 480), 30


class RealSenseCamera(CapturingCamera):
    """Newest colour frame of a RealSense.

    Args:
        serial: Serial number; empty for the only one there is.
        settings: Size, rate, exposure [microseconds], gain, white balance.
    """

    def __init__(self, serial: str, settings: CameraSettings) -> None:
        super().__init__(f"RealSense {serial or '(any)'}")
        self._serial = serial
        self._settings = settings
        self._pipeline: Any = None

    def _open(self) -> None:
        try:
            import pyrealsense2 as rs
        except ModuleNotFoundError as error:
            text = f"{self.name} needs pyrealsense2: pip install 'vjepa-planner[realsense]'"
            raise CameraError(text) from error
        except ImportError as error:
            text = f"{self.name}: pyrealsense2 does not load ({error}): {USB_REMEDY}"
            raise CameraError(text) from error
        settings = self._settings
        config = rs.config()
        if self._serial:
            config.enable_device(self._serial)
        width, height = settings.width or _DEFAULT_SIZE[0], settings.height or _DEFAULT_SIZE[1]
        fps = round(settings.fps or _DEFAULT_FPS)
        config.enable_stream(rs.stream.color, width, height, rs.format.rgb8, fps)
        self._pipeline = rs.pipeline()
        try:
            profile = self._pipeline.start(config)
            self._set(rs, profile.get_device().first_color_sensor())
        except RuntimeError as error:
            self._pipeline = None
            raise CameraError(
                f"{self.name} does not start: {error}. Is it on USB 3, and {width} x {height} at "
                f"{fps} a mode it has? `robot-client cameras` lists what is there."
            ) from error

    def _set(self, rs: Any, sensor: Any) -> None:
        settings = self._settings
        sensor.set_option(rs.option.enable_auto_exposure, float(settings.exposure is None))
        if settings.exposure is not None:
            sensor.set_option(rs.option.exposure, settings.exposure)
        if settings.gain is not None:
            sensor.set_option(rs.option.gain, settings.gain)
        is_automatic = settings.white_balance_k is None
        sensor.set_option(rs.option.enable_auto_white_balance, float(is_automatic))
        if settings.white_balance_k is not None:
            sensor.set_option(rs.option.white_balance, settings.white_balance_k)

    def _read(self) -> CapturedFrame | None:
        try:
            frames = self._pipeline.wait_for_frames(_READ_TIMEOUT_MS)
        except RuntimeError:
            return None
        image = frames.get_color_frame()
        if not image:
            return None
        return CapturedFrame(np.array(image.get_data(), np.uint8), time.monotonic())

    def _close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None
