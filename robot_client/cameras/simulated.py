"""The simulator's camera stream, over ZMQ.

One message is a msgpack map: version 1, sequence, t_monotonic_s and t_wall_s (when the physics was
in the state shown), height, width, and rgb, height x width x 3 bytes row by row.
"""

import threading
import time
from typing import Any

import msgpack
import numpy as np
import zmq

from robot_client.cameras.camera import CapturedFrame, FrameSlot
from robot_client.errors import CameraError

_VERSION = 1
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_FIRST_FRAME_TIMEOUT_S = 5.0
_POLL_MS = 50
#: Between the physics' state and the frame's arrival, at most; a larger gap means another clock.
_MAX_DELAY_S = 60.0


class SimulatedCamera:
    """Newest frame of a running simulator.

    Args:
        endpoint: Its camera's address, e.g. tcp://127.0.0.1:5560.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._slot = FrameSlot(f"the simulated camera at {endpoint}")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None

    def connect(self) -> None:
        """Subscribe and wait for the first frame.

        Raises:
            CameraError: Nothing comes.
        """
        self._ending.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._receive, name="camera", daemon=True)
        self._thread.start()
        if not self._slot.wait_for_first(_FIRST_FRAME_TIMEOUT_S):
            self.disconnect()
            reason = self._failure or "nothing came"
            raise CameraError(
                f"no frame from {self._endpoint} in {_FIRST_FRAME_TIMEOUT_S:.0f} s: {reason}. "
                "Is `python -m simulation serve` running there?"
            )

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The newest frame, at most `max_age_s` old."""
        return self._slot.newest(max_age_s)

    def disconnect(self) -> None:
        """End the subscription."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(timeout=2.0)
            self._thread = None

    def _receive(self) -> None:
        context: zmq.Context[Any] = zmq.Context()
        try:
            socket = context.socket(zmq.SUB)
            socket.setsockopt(zmq.CONFLATE, 1)  # only the newest frame, ever
            socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(self._endpoint)
            while not self._ending.is_set():
                if socket.poll(_POLL_MS):
                    self._slot.put(decode_frame(socket.recv()))
        except (zmq.ZMQError, CameraError) as error:
            self._failure = str(error)
        finally:
            context.destroy(linger=0)


def decode_frame(message: bytes) -> CapturedFrame:
    """Turn one message of the stream into a frame.

    Raises:
        CameraError: It is no frame of this version.
    """
    try:
        fields = msgpack.unpackb(message, max_bin_len=_MAX_MESSAGE_BYTES)
        version, height, width = fields["version"], fields["height"], fields["width"]
        frame = np.frombuffer(fields["rgb"], np.uint8).reshape(height, width, 3)
        t_capture = float(fields["t_monotonic_s"])
    except (msgpack.UnpackException, ValueError, TypeError, KeyError) as error:
        raise CameraError(f"not a camera message: {error!r}") from error
    if version != _VERSION:
        raise CameraError(f"camera stream of version {version}; this client reads {_VERSION}")
    now = time.monotonic()
    # The simulator runs on this machine and shares its monotonic clock; elsewhere it cannot.
    is_same_clock = 0.0 <= now - t_capture <= _MAX_DELAY_S
    return CapturedFrame(frame, t_capture if is_same_clock else now)
