"""The simulated camera on the wire: the newest frame, raw, to whoever subscribes.

One message is a msgpack map: `version` 1, `sequence`, `t_monotonic_s` and `t_wall_s` (when the
physics was in the state shown), `height`, `width`, and `rgb`: height x width x 3 bytes, row by
row. It says nothing of the physics: a subscriber sees what a camera would see. The subscriber is
`robot_client.cameras.simulated`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import mujoco
import numpy as np
import zmq
from numpy.typing import NDArray

from simulation.errors import ServerStartError, SimulationError
from simulation.rendering import FrameRenderer

logger = logging.getLogger(__name__)

VERSION = 1
_MAX_INCOMING_BYTES = 4096  # subscriptions and requests are short


@dataclass(frozen=True)
class PhysicsSnapshot:
    """Generalised positions of the whole scene and when they held."""

    positions: NDArray[np.float64]
    t_monotonic_s: float
    t_wall_s: float


@dataclass(frozen=True)
class CameraFrame:
    """One frame of the stream, uint8 RGB `[H, W, 3]`, with the time it shows."""

    sequence: int
    t_monotonic_s: float
    t_wall_s: float
    image: NDArray[np.uint8]

    def encode(self) -> bytes:
        """Return the message."""
        height, width = self.image.shape[:2]
        fields = {
            "version": VERSION,
            "sequence": self.sequence,
            "t_monotonic_s": self.t_monotonic_s,
            "t_wall_s": self.t_wall_s,
            "height": height,
            "width": width,
            "rgb": self.image.tobytes(),
        }
        packed: bytes = msgpack.packb(fields)
        return packed


class CameraStream:
    """Renders snapshots of a running simulation in a thread of its own and publishes them.

    Args:
        model: The compiled workcell.
        newest: Returns the newest snapshot; called from the camera's thread.
        endpoint: Where to publish, for example `tcp://127.0.0.1:5560`; port `*` takes a free one.
        rate_hz: Frames per second.

    Raises:
        ServerStartError: The endpoint cannot be bound.
    """

    def __init__(
        self, model: Any, newest: Callable[[], PhysicsSnapshot], endpoint: str, rate_hz: float
    ) -> None:
        self._model = model
        self._newest = newest
        self._period_s = 1.0 / rate_hz
        self._stopping = threading.Event()
        self._began = threading.Event()
        self._failure: SimulationError | None = None
        self._socket = bind(zmq.PUB, endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Begin to publish; return after the first frame.

        Raises:
            RenderingError: There is no OpenGL to render with.
        """
        self._thread.start()
        self._began.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop publishing and release endpoint and OpenGL context."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._socket.close(linger=0)

    def _run(self) -> None:
        try:
            self._publish()
        except SimulationError as error:
            self._failure = error
            logger.error("the camera has stopped: %s", error)
        finally:
            self._began.set()

    def _publish(self) -> None:
        renderer, data = FrameRenderer(), mujoco.MjData(self._model)
        sequence, due_s = 0, time.monotonic()
        while not self._stopping.is_set():
            snapshot = self._newest()
            # A copy is rendered, so that physics never waits for the picture.
            data.qpos[:] = snapshot.positions
            mujoco.mj_forward(self._model, data)
            image = renderer.render(self._model, data)
            frame = CameraFrame(sequence, snapshot.t_monotonic_s, snapshot.t_wall_s, image)
            self._socket.send(frame.encode())
            self._began.set()
            sequence += 1
            due_s = max(due_s + self._period_s, time.monotonic())
            self._stopping.wait(due_s - time.monotonic())
        renderer.close()


def bind(kind: int, endpoint: str) -> Any:
    """Bind a ZMQ socket of this process's context that keeps no backlog.

    Raises:
        ServerStartError: The endpoint is taken or malformed.
    """
    endpoint_socket: Any = zmq.Context.instance().socket(kind)
    endpoint_socket.setsockopt(zmq.SNDHWM, 2)
    endpoint_socket.setsockopt(zmq.MAXMSGSIZE, _MAX_INCOMING_BYTES)  # of no effect once bound
    try:
        endpoint_socket.bind(endpoint)
    except zmq.ZMQError as error:
        endpoint_socket.close(linger=0)
        raise ServerStartError(
            f"cannot listen on {endpoint} ({error}); another simulator may be running, "
            "stop it or give another port"
        ) from error
    return endpoint_socket
