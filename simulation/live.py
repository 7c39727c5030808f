"""The workcell in real time: the arm on libfranka's ports, a camera stream and a supervisor.

The physics runs at 1 kHz in the thread that calls `LiveWorkcell.run`; camera and supervisor read
copies of its state. One process serves one task: the arm starts at the task's start pose.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import mujoco
from franky_sim.simulation_server import SimulationServer

from simulation.camera_stream import CameraStream, PhysicsSnapshot
from simulation.errors import ServerStartError
from simulation.stepper import OfflineWorkcell
from simulation.supervisor import Report, Supervisor
from simulation.tasks import Task
from simulation.truth import PhysicsReader
from simulation.verdicts import judge
from simulation.workcell import build_simulator

logger = logging.getLogger(__name__)

TICK_S = 0.001  # libfranka's control period
ARM_PORT, GRIPPER_PORT = 1337, 1338  # fixed by libfranka
_HOSTS = 100  # loopback addresses that "auto" tries
_SNAPSHOT_TICKS = 5
_FACTOR_TICKS = 1000
_GIVE_UP_LAG_S = 0.1  # further behind than this, lost time is dropped instead of caught up


@dataclass(frozen=True)
class Endpoints:
    """Where a live workcell can be met; the arm's host must be an address of this machine.

    Several simulators run side by side on different loopback addresses (127.0.0.1, 127.0.0.2,
    ...) with different camera and supervisor ports. Host "auto" takes the first loopback address
    that is free, port `*` a free port.
    """

    host: str = "127.0.0.1"
    camera: str = "tcp://127.0.0.1:5560"
    supervisor: str = "tcp://127.0.0.1:5561"


class LiveWorkcell:
    """One running simulation of one task.

    Args:
        task: What is laid out.
        endpoints: Where arm, camera and supervisor listen.
        camera_rate_hz: Frames per second of the camera stream.

    Raises:
        ServerStartError: A port is taken.
    """

    def __init__(self, task: Task, endpoints: Endpoints, camera_rate_hz: float = 12.0) -> None:
        self._task = task
        self._stopping = threading.Event()
        self._real_time_factor = 1.0
        joints = OfflineWorkcell(task.variation).kinematics.solve(task.start)
        self._simulator = build_simulator(task.variation, joints)
        self._simulator.init()
        self._server, host = self._start_server(endpoints.host)
        model = self._simulator.model
        # The arm's servo adds its own gravity torques, as a real one does.
        model.body_gravcomp[:] = 0.0
        self._reader, self._truth_data = PhysicsReader(model), mujoco.MjData(model)
        self._snapshot = self._take_snapshot()
        with ExitStack() as undo:
            undo.callback(self._server.cleanup)
            self._camera = CameraStream(model, self._newest, endpoints.camera, camera_rate_hz)
            undo.callback(self._camera.stop)
            self._supervisor = Supervisor(endpoints.supervisor, task, self.report, self.stop)
            undo.pop_all()
        self.endpoints = Endpoints(host, self._camera.endpoint, self._supervisor.endpoint)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until `stop` is called, here or by the supervisor.

        Args:
            on_ready: Called once, when everything answers.

        Raises:
            RenderingError: There is no OpenGL for the camera.
        """
        try:
            self._camera.start()
            self._supervisor.start()
            on_ready()
            self._run_physics()
        finally:
            self._camera.stop()
            self._supervisor.stop()
            self._server.cleanup()
            self._simulator.cleanup()

    def stop(self) -> None:
        """Ask `run` to return; may be called from any thread."""
        self._stopping.set()

    def report(self) -> Report:
        """Return the truth as of the last few milliseconds; one caller at a time."""
        snapshot = self._newest()
        self._truth_data.qpos[:] = snapshot.positions
        mujoco.mj_forward(self._simulator.model, self._truth_data)
        truth = self._reader.truth(self._truth_data)
        verdict = judge(self._task, truth)
        return Report(truth, verdict, self._real_time_factor, snapshot.t_monotonic_s)

    def _start_server(self, host: str) -> tuple[SimulationServer, str]:
        """Listen on libfranka's ports; returns the server and its address."""
        hosts = [f"127.0.0.{last}" for last in range(1, _HOSTS)] if host == "auto" else [host]
        reason: OSError | None = None
        for candidate in hosts:
            server = SimulationServer(self._simulator, hostname_candidates=[candidate])
            try:
                server.init()
            except OSError as error:
                reason = error
                server.cleanup()
                continue
            return server, candidate
        raise ServerStartError(
            f"the simulated arm cannot listen on {host}:{ARM_PORT} and :{GRIPPER_PORT} "
            f"({reason}); another simulator may be running there, stop it or give another "
            "loopback address, for example --host 127.0.0.2"
        ) from reason

    def _run_physics(self) -> None:
        due_s = mark_s = time.monotonic()
        tick = 0
        while not self._stopping.is_set():
            self._server.run_once(realtime=False)
            tick += 1
            if tick % _SNAPSHOT_TICKS == 0:
                self._snapshot = self._take_snapshot()
            if tick % _FACTOR_TICKS == 0:
                elapsed_s, mark_s = time.monotonic() - mark_s, time.monotonic()
                self._real_time_factor = _FACTOR_TICKS * TICK_S / elapsed_s
            due_s += TICK_S
            ahead_s = due_s - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)
            elif ahead_s < -_GIVE_UP_LAG_S:
                logger.warning("physics fell %.0f ms behind real time", -1000 * ahead_s)
                due_s = time.monotonic()

    def _newest(self) -> PhysicsSnapshot:
        return self._snapshot

    def _take_snapshot(self) -> PhysicsSnapshot:
        data: Any = self._simulator.data
        return PhysicsSnapshot(data.qpos.copy(), time.monotonic(), time.time())
