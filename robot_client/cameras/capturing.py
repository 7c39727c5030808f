"""A camera read by a thread, so that frames never queue up; one subclass per kind of camera."""

import threading
from abc import ABC, abstractmethod

from robot_client.cameras.camera import CapturedFrame, FrameSlot
from robot_client.errors import CameraError

_FIRST_FRAME_TIMEOUT_S = 10.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0


class CapturingCamera(ABC):
    """Opens a device, keeps its newest frame, and opens it again when it was lost.

    Readers see a lost camera as a frame that grows old; they never wait for it.

    Args:
        name: For messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._slot = FrameSlot(name)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: CameraError | None = None

    @abstractmethod
    def _open(self) -> None:
        """Open the device. Raises `CameraError` with the remedy."""

    @abstractmethod
    def _read(self) -> CapturedFrame | None:
        """Wait for one frame, not longer than a second or so; None when the device is lost."""

    @abstractmethod
    def _close(self) -> None:
        """Free the device; harmless when it is not open."""

    def connect(self) -> None:
        """Open the device and wait for its first frame.

        Raises:
            CameraError: It cannot be opened or stays dark.
        """
        self._open()
        self._ending.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._capture, name=self.name, daemon=True)
        self._thread.start()
        if not self._slot.wait_for_first(_FIRST_FRAME_TIMEOUT_S):
            self.disconnect()
            raise self._failure or CameraError(f"{self.name} opens but delivers no frame")

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The newest frame, at most `max_age_s` old."""
        return self._slot.newest(max_age_s)

    def disconnect(self) -> None:
        """End the thread, which frees the device."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(timeout=3.0)
            self._thread = None

    def _capture(self) -> None:
        retry_s = _FIRST_RETRY_S
        is_open = True
        while not self._ending.is_set():
            captured = self._read() if is_open else None
            if captured is not None:
                self._slot.put(captured)
                retry_s = _FIRST_RETRY_S
                continue
            self._close()
            self._ending.wait(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)
            is_open = not self._ending.is_set() and self._try_open()
        self._close()

    def _try_open(self) -> bool:
        try:
            self._open()
        except CameraError as error:
            self._failure = error
            return False
        return True
