"""Many simulated robots in one process: each looks four times a second, whatever became of the look before."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from typing_extensions import Self

from benchmarks.server_process import ServerProcess
from robot_client import codec
from robot_client.protocol import Act, Hello, Observe, Welcome, decode
from robot_client.rest import RestClient, SessionOptions

RATE_HZ = 4.0
_PATIENCE_MS = 1e3 / RATE_HZ
_TRANSIT_MS = 50.0  # what wire and this process may add before a reply counts as late here
_QUIET_S = 2.0


@dataclass(frozen=True)
class SwarmResult:
    """What the robots saw.

    Attributes:
        plans_per_s: Plans received, all robots together.
        observed: Observations sent.
        planned: Plans received.
        dropped: Observations that a newer one overtook.
        refused: Errors received.
        late: Plans that came after the deadline.
        late_unwarned: Of them, those that did not say so.
        fairness: Fewest plans of a robot by most plans of a robot.
        p50_ms: Median time from observation to plan [ms].
        p99_ms: 99th percentile of it [ms].
        growth_mib_per_minute: Growth of the server's memory once it has settled [MiB/min].
    """

    plans_per_s: float
    observed: int
    planned: int
    dropped: int
    refused: int
    late: int
    late_unwarned: int
    fairness: float
    p50_ms: float
    p99_ms: float
    growth_mib_per_minute: float


class _Robot:
    def __init__(self, context: zmq.Context[Any], server: ServerProcess, goal: bytes) -> None:
        rest = RestClient(server.url)
        self.session = rest.create_session(SessionOptions())
        rest.put_goals(self.session, [goal])
        self.socket = context.socket(zmq.DEALER)
        self.socket.connect(server.zmq)
        self.socket.send(Hello(1, "swarm", session=self.session).encode())
        assert self.socket.poll(30_000), "no welcome"
        assert isinstance(decode(self.socket.recv()), Welcome)
        self.sent_s: dict[int, float] = {}
        self.plans = 0
        self.dropped = 0


class Swarm:
    """Robots that drive in a thread.

    Args:
        server: Who plans.
        count: How many robots.
        frame: What all of them see, uint8 RGB [H, W, 3].
        state: Where all of them are.
    """

    def __init__(
        self, server: ServerProcess, count: int, frame: NDArray[np.uint8], state: tuple[float, ...]
    ) -> None:
        self._server = server
        self._context: zmq.Context[Any] = zmq.Context()
        self._frame = codec.encode_image(frame, "jpeg")
        self._state = np.array(state)
        goal = codec.encode_image(np.ascontiguousarray(frame[:, ::-1]), "png").data
        self._robots = [_Robot(self._context, server, goal) for _ in range(count)]
        self._latencies_ms: list[float] = []
        self._memory: list[tuple[float, float]] = []
        self._refused = self._late = self._late_unwarned = 0
        self._seq = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()
        self._context.destroy(linger=0)

    def start(self, settle_s: float, duration_s: float) -> None:
        """Begin to drive: for a time until allocators and caches have settled, and a time that is measured [s]."""
        self._settle_s, self._duration_s = settle_s, settle_s + duration_s
        self._thread = threading.Thread(target=self._drive)
        self._thread.start()

    def result(self) -> SwarmResult:
        """Wait for the end and return what was seen."""
        assert self._thread is not None
        self._thread.join()
        plans = [robot.plans for robot in self._robots]
        p50, p99 = np.percentile(self._latencies_ms, (50, 99))
        return SwarmResult(
            plans_per_s=sum(plans) / self._duration_s,
            observed=self._seq,
            planned=sum(plans),
            dropped=sum(robot.dropped for robot in self._robots),
            refused=self._refused,
            late=self._late,
            late_unwarned=self._late_unwarned,
            fairness=min(plans) / max(*plans, 1),
            p50_ms=float(p50),
            p99_ms=float(p99),
            growth_mib_per_minute=self._growth(),
        )

    def _drive(self) -> None:
        poller = zmq.Poller()
        for robot in self._robots:
            poller.register(robot.socket, zmq.POLLIN)
        period_s = 1 / RATE_HZ
        started = time.monotonic()
        # Spread over the period, as robots that know nothing of each other are.
        due = [started + period_s * i / len(self._robots) for i in range(len(self._robots))]
        while (now := time.monotonic()) < started + self._duration_s + _QUIET_S:
            is_over = now >= started + self._duration_s
            for index, robot in enumerate(self._robots):
                if due[index] <= now and not is_over:
                    due[index] += period_s
                    self._observe(robot)
            self._measure_memory(now)
            wait_s = 0.05 if is_over else min(min(due) - time.monotonic(), 0.05)
            ready = dict(poller.poll(max(0, round(1000 * wait_s))))
            for robot in self._robots:
                if robot.socket in ready:
                    self._hear(robot)

    def _observe(self, robot: _Robot) -> None:
        self._seq += 1
        robot.sent_s[self._seq] = time.monotonic()
        look = Observe(robot.session, self._seq, time.monotonic(), self._frame, self._state)
        robot.socket.send(look.encode())

    def _hear(self, robot: _Robot) -> None:
        while robot.socket.poll(0):
            reply = decode(robot.socket.recv())
            if not isinstance(reply, Act):
                self._refused += 1
                continue
            latency_ms = 1e3 * (time.monotonic() - robot.sent_s.pop(reply.seq))
            self._latencies_ms.append(latency_ms)
            robot.plans += 1
            robot.dropped = reply.dropped
            warned = any(warning.startswith("late:") for warning in reply.warnings)
            is_late = warned or latency_ms > self._patience_ms + _TRANSIT_MS
            self._late += is_late
            self._late_unwarned += is_late and not warned

    def _measure_memory(self, now: float) -> None:
        if not self._memory or now - self._memory[-1][0] >= 1.0:
            self._memory.append((now, self._server.memory_mib()))

    def _growth(self) -> float:
        """Return the slope of a line through the memory of the settled server [MiB/min]."""
        since_s = self._memory[0][0] + self._settle_s
        times_s, sizes = np.array([each for each in self._memory if each[0] >= since_s]).T
        return float(60 * np.polyfit(times_s - times_s[0], sizes, 1)[0]) if len(sizes) > 2 else 0.0

    @property
    def _patience_ms(self) -> float:
        return _PATIENCE_MS
