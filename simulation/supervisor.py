"""The supervisor's door: what an experimenter may ask of a running simulation, and a robot not.

Requests and replies are msgpack maps with a `type`: `task` (goal images and budgets), `truth`
(exact poses and the verdict), `shutdown`. The socket is not the camera's and not the arm's, so a
client that holds only those two cannot see the truth. The client is `robot_client.supervisor`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from simulation.camera_stream import bind
from simulation.errors import SupervisorError
from simulation.tasks import Frame, Task
from simulation.truth import Truth
from simulation.verdicts import Verdict

logger = logging.getLogger(__name__)

_POLL_MS = 100


@dataclass(frozen=True)
class Report:
    """The truth at one instant of a running simulation.

    Attributes:
        real_time_factor: Simulated over elapsed time during the last second or so.
    """

    truth: Truth
    verdict: Verdict
    real_time_factor: float
    t_monotonic_s: float


class Supervisor:
    """Answers requests in a thread of its own.

    Args:
        endpoint: Where to listen, for example `tcp://127.0.0.1:5561`; port `*` takes a free one.
        task: The running task.
        report: Returns the truth; called from the supervisor's thread.
        shut_down: Called when a shutdown is asked for.

    Raises:
        ServerStartError: The endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: str,
        task: Task,
        report: Callable[[], Report],
        shut_down: Callable[[], None],
    ) -> None:
        self._report = report
        self._shut_down = shut_down
        self._sheet = _pack_task(task)
        self._stopping = threading.Event()
        self._socket = bind(zmq.REP, endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and release the endpoint."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._socket.close(linger=200)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(_POLL_MS):
                self._socket.send(msgpack.packb(self._answer(self._socket.recv())))

    def _answer(self, message: bytes) -> dict[str, Any]:
        try:
            request = msgpack.unpackb(message)
            kind = request["type"]
        except (msgpack.UnpackException, ValueError, TypeError, KeyError) as error:
            return {"type": "error", "message": f"not a request ({error!r}); send a map with type"}
        if kind == "task":
            return self._sheet
        if kind == "truth":
            return _pack_report(self._report())
        if kind == "shutdown":
            self._shut_down()
            return {"type": "shutdown"}
        return {"type": "error", "message": f"no request {kind!r}; there are task, truth, shutdown"}


def encode_png(image: Frame) -> bytes:
    """Compress a frame, uint8 RGB `[H, W, 3]`, without loss."""
    is_done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_done:
        raise SupervisorError(f"a frame of shape {image.shape} could not be written as PNG")
    data: NDArray[np.uint8] = encoded
    return data.tobytes()


def _pack_task(task: Task) -> dict[str, Any]:
    goals = [
        {
            "png": encode_png(goal.image),
            "step_budget": goal.step_budget,
            "gripper_rule": goal.gripper_rule,
        }
        for goal in task.sub_goals
    ]
    return {"type": "task", "name": task.name, "seed": task.seed, "goals": goals}


def _pack_report(report: Report) -> dict[str, Any]:
    truth, verdict = report.truth, report.verdict
    return {
        "type": "truth",
        "state": truth.state.tolist(),
        "object_position_m": truth.object_position_m.tolist(),
        "object_tilt_rad": truth.object_tilt_rad,
        "is_held": truth.is_held,
        "is_success": bool(verdict.is_success),
        "distance_m": verdict.distance_m,
        "reason": verdict.reason,
        "real_time_factor": report.real_time_factor,
        "t_monotonic_s": report.t_monotonic_s,
    }
