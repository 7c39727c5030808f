"""The simulator's supervisor: goal images before a run, the physics' truth beside and after it.

Nothing from here reaches the planner but the goal images, which a person would photograph. What is
shown or recorded from it is labelled as the simulator's truth.
"""

from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from robot_client.errors import RunError

_MAX_REPLY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Truth:
    """What the physics says at one instant.

    Attributes:
        is_success: The task's verdict, were it to end now.
        distance_m: How far from done [m]; what it measures depends on the task.
        reason: One phrase.
        real_time_factor: Simulated over elapsed time of late.
    """

    is_success: bool
    distance_m: float
    reason: str
    real_time_factor: float


class Supervisor:
    """Asks a running simulator.

    Args:
        endpoint: Where it listens, e.g. tcp://127.0.0.1:5561.
        timeout_s: Limit for each answer.
    """

    def __init__(self, endpoint: str, timeout_s: float = 5.0) -> None:
        self._endpoint = endpoint
        self._timeout_ms = round(1000 * timeout_s)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        # A REQ socket that missed an answer is stuck unless it may ask again.
        self._socket.setsockopt(zmq.REQ_RELAXED, 1)
        self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REPLY_BYTES)
        self._socket.connect(endpoint)

    def goals(self) -> list[bytes]:
        """Goal images of the running task as PNG files, in order."""
        return [goal["png"] for goal in self.ask("task")["goals"]]

    def truth(self) -> Truth:
        """The verdict as of now."""
        reply = self.ask("truth")
        return Truth(
            is_success=bool(reply["is_success"]),
            distance_m=float(reply["distance_m"]),
            reason=str(reply["reason"]),
            real_time_factor=float(reply["real_time_factor"]),
        )

    def close(self) -> None:
        """Free the socket."""
        self._context.destroy(linger=0)

    def ask(self, kind: str) -> dict[str, Any]:
        """Send one request, "task", "truth" or "shutdown", and return the reply as it is.

        Raises:
            RunError: No answer in time, or the simulator refused.
        """
        self._socket.send(msgpack.packb({"type": kind}))
        if not self._socket.poll(self._timeout_ms):
            raise RunError(
                f"the simulator's supervisor at {self._endpoint} does not answer; is "
                "`python -m simulation serve` running there?"
            )
        reply: dict[str, Any] = msgpack.unpackb(self._socket.recv())
        if reply.get("type") == "error":
            raise RunError(f"the simulator refused {kind!r}: {reply.get('message')}")
        return reply
