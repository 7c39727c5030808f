"""A simulated Franka in a process of its own, driven by the same driver as the real one.

`python -m simulation serve` speaks libfranka's protocol, publishes a camera and answers a
supervisor's questions. Only the speed cap and the real-time demand differ from hardware.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from robot_client.arms.franky_arm import FrankySettings
from robot_client.errors import RunError
from robot_client.processes import Child

#: In simulation nobody stands beside the arm; fast enough for the longest step in one period.
SIMULATION_SETTINGS = FrankySettings(max_speed_m_s=0.6, yield_force_n=None, needs_realtime=False)

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class SimulatorOptions:
    """What is simulated.

    Attributes:
        task: "reach", "grasp" or "pick_and_place".
        seed: Of the workcell, its start and goal.
        distance: "near" or "far": how far the start is from the goal.
        camera_yaw_deg: Turns the camera about the table.
    """

    task: str
    seed: int = 0
    distance: str = "near"
    camera_yaw_deg: float = 0.0


@dataclass(frozen=True)
class SimulatorAddress:
    """Where a running simulator answers: the arm's host, and camera and supervisor endpoints."""

    robot: str
    camera: str
    supervisor: str


class SimulatorProcess(Child):
    """The simulator, on a loopback address and on ports that it finds free itself.

    Args:
        options: What to simulate.
        folder: For its log.
    """

    def __init__(self, options: SimulatorOptions, folder: Path) -> None:
        self._started = time.monotonic()
        arguments = ["-m", "simulation", "serve", "--host", "auto"]
        arguments += ["--camera", "tcp://127.0.0.1:*", "--supervisor", "tcp://127.0.0.1:*"]
        arguments += ["--task", options.task, "--seed", str(options.seed)]
        arguments += ["--distance", options.distance]
        arguments += ["--camera-yaw", str(options.camera_yaw_deg)]
        super().__init__("the simulator", arguments, folder / "simulator.log", {})

    def wait(self) -> SimulatorAddress:
        """Wait until arm, camera and supervisor answer; returns where.

        Raises:
            RunError: It ended, or is not ready in time.
        """
        self.wait_until(lambda: self._ready() is not None, _TIMEOUT_S)
        ready = self._ready()
        if ready is None:
            raise RunError("the simulator's log lost its ready line; is the disk full?")
        return ready

    def waited_s(self) -> float:
        """Time since it was started [s]."""
        return time.monotonic() - self._started

    def _ready(self) -> SimulatorAddress | None:
        for line in self.output().splitlines(keepends=True):
            if line.startswith('{"event": "ready"') and line.endswith("\n"):
                values = json.loads(line)
                return SimulatorAddress(values["robot"], values["camera"], values["supervisor"])
        return None
