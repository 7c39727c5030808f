"""StereoLabs ZED, left eye; needs the ZED SDK's `pyzed`, imported only when it is used."""

import time
from typing import Any

import numpy as np

from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.capturing import CapturingCamera
from robot_client.cameras.settings import CameraSettings
from robot_client.errors import CameraError

_DEFAULT_FPS = 30


class ZedCamera(CapturingCamera):
    """Newest frame of a ZED's left eye, the camera that DROID was recorded with.

    Args:
        serial: Serial number; empty for the only one there is.
        settings: Height chooses the mode (1080, 720 or less), rate, exposure and gain [percent].
    """

    def __init__(self, serial: str, settings: CameraSettings) -> None:
        super().__init__(f"ZED {serial or '(any)'}")
        self._serial = serial
        self._settings = settings
        self._camera: Any = None
        self._image: Any = None
        self._sl: Any = None

    def _open(self) -> None:
        try:
            import pyzed.sl as sl
        except ImportError as error:
            raise CameraError(
                f"{self.name} needs the ZED SDK and its Python API: install the SDK, then run its "
                "get_python_api.py in this environment"
            ) from error
        parameters = sl.InitParameters()
        parameters.depth_mode = sl.DEPTH_MODE.NONE
        parameters.camera_fps = round(self._settings.fps or _DEFAULT_FPS)
        parameters.camera_resolution = self._mode(sl)
        if self._serial:
            parameters.set_from_serial_number(int(self._serial))
        camera = sl.Camera()
        status = camera.open(parameters)
        if status != sl.ERROR_CODE.SUCCESS:
            raise CameraError(
                f"{self.name} does not open: {status}. Is it on USB 3 and not in use?"
            )
        self._sl, self._camera, self._image = sl, camera, sl.Mat()
        self._set()

    def _mode(self, sl: Any) -> Any:
        height = self._settings.height or 720
        if height >= 1080:
            return sl.RESOLUTION.HD1080
        return sl.RESOLUTION.HD720 if height >= 720 else sl.RESOLUTION.VGA

    def _set(self) -> None:
        names = self._sl.VIDEO_SETTINGS
        wanted = (
            (names.EXPOSURE, self._settings.exposure),
            (names.GAIN, self._settings.gain),
            (names.WHITEBALANCE_TEMPERATURE, self._settings.white_balance_k),
        )
        for name, value in wanted:
            if value is not None:
                self._camera.set_camera_settings(name, round(value))

    def _read(self) -> CapturedFrame | None:
        if self._camera.grab() != self._sl.ERROR_CODE.SUCCESS:
            return None
        now = time.monotonic()
        self._camera.retrieve_image(self._image, self._sl.VIEW.LEFT)
        bgra = self._image.get_data()
        return CapturedFrame(np.ascontiguousarray(bgra[..., 2::-1]), now)

    def _close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
