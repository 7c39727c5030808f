"""The demo: a planner server, a simulated Franka and this client, started together on one machine.

Everything goes the way it goes on hardware: frames and plans over ZMQ, goal images over HTTP,
motions over libfranka's own protocol. Only the goal images and the final verdict come from the
simulator's supervisor, whom the planner never meets.
"""

import json
import os
import socket
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from robot_client.arms.franky_arm import FrankyArm, FrankySettings
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.errors import RunError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.processes import Child
from robot_client.recorder import Recorder, make_folder
from robot_client.rest import RestClient, SessionOptions
from robot_client.run import Outcome, Robot, carry_out, read_goals, say
from robot_client.server_link import ServerLink
from robot_client.supervisor import Supervisor
from robot_client.tasks import Task

#: In simulation nobody stands beside the arm; fast enough for the longest step in one period.
SIMULATION_SETTINGS = FrankySettings(max_speed_m_s=0.6, needs_realtime=False)

_DEADLINE_MS = 750
_SERVER_TIMEOUT_S = 120.0
_SIMULATOR_TIMEOUT_S = 60.0
_FCI_PORTS = (1337, 1338)


@dataclass(frozen=True)
class DemoOptions:
    """What a demo run is.

    Attributes:
        task: What to do.
        seed: Of the workcell, its start and goal, and of the planner's random numbers.
        distance: "near" or "far": how far the start is from the goal.
        planner: Name of the server's planner; None for its default.
        model: Folder of the world model; None for the shipped one.
        runs: Folder of all runs.
    """

    task: Task
    seed: int
    distance: str
    planner: str | None
    model: Path | None
    runs: Path


def run_demo(options: DemoOptions) -> Outcome:
    """Start server and simulator, do the task, end both.

    Raises:
        RobotClientError: A program did not start, or the run failed; both are ended all the same.
        KeyboardInterrupt: Somebody stopped it; both are ended all the same.
    """
    folder = make_folder(options.runs, options.task.name)
    with ExitStack() as stack:
        server = stack.enter_context(_Server(options, folder))
        simulator = stack.enter_context(_Simulator(options, folder))
        url = server.wait()
        ready = simulator.wait()
        supervisor = stack.enter_context(closing(Supervisor(ready["supervisor"])))
        files = supervisor.goals()
        goals = read_goals(files, options.task)
        rest = RestClient(url)
        address = ServerAddress(rest.model()["zmq_endpoint"])
        session = SessionOptions(
            planner=options.planner,
            search_gripper=options.task.gripper_from_plan,
            seed=options.seed,
        )
        link = ServerLink(PlannerClient(address), rest, session, files)
        arm = FrankyArm(ready["robot"], SIMULATION_SETTINGS)
        robot = Robot(arm, SimulatedCamera(ready["camera"]), is_moving_allowed=True)
        recorder = stack.enter_context(Recorder(folder, options.task, goals))
        return carry_out(options.task, robot, link, recorder, supervisor)


class _Server(Child):
    """`uvicorn planner_server.app:app` on free ports."""

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._port = _free_port()
        self._started = time.monotonic()
        environment = {
            "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
            # What the shell has set for a server in the lab is not meant for this one.
            "PLANNER_CONFIG": "",
            "PLANNER_TOKEN": "",
            # A search that would outlast the control period answers with the best it has by then.
            "PLANNER_DEADLINE_MS": str(_DEADLINE_MS),
            # One core stays free for the simulator's physics, which must keep up with time.
            "PLANNER_TORCH_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)),
        }
        if options.model is not None:
            environment["PLANNER_MODEL"] = str(options.model)
        arguments = ["-m", "uvicorn", "planner_server.app:app", "--port", str(self._port)]
        super().__init__("the planner server", arguments, folder / "server.log", environment)

    def wait(self) -> str:
        """Wait until the model is loaded; returns the server's HTTP address."""
        url = f"http://127.0.0.1:{self._port}"
        say("starting the planner server ...")
        self.wait_until(RestClient(url, timeout_s=2.0).is_ready, _SERVER_TIMEOUT_S)
        say(f"planner server ready at {url} after {time.monotonic() - self._started:.1f} s")
        return url


class _Simulator(Child):
    """`python -m simulation serve` on free ports."""

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._started = time.monotonic()
        arguments = ["-m", "simulation", "serve", "--host", _free_loopback_address()]
        arguments += ["--camera", f"tcp://127.0.0.1:{_free_port()}"]
        arguments += ["--supervisor", f"tcp://127.0.0.1:{_free_port()}"]
        arguments += ["--task", options.task.name, "--seed", str(options.seed)]
        arguments += ["--distance", options.distance]
        super().__init__("the simulator", arguments, folder / "simulator.log", {})

    def wait(self) -> dict[str, str]:
        """Wait until arm, camera and supervisor answer; returns where."""
        say("starting the simulated Franka ...")
        self.wait_until(lambda: self._ready() is not None, _SIMULATOR_TIMEOUT_S)
        ready = self._ready()
        if ready is None:
            raise RunError("the simulator's log lost its ready line; is the disk full?")
        after_s = time.monotonic() - self._started
        say(f"simulated Franka ready at {ready['robot']} after {after_s:.1f} s")
        return ready

    def _ready(self) -> dict[str, str] | None:
        for line in self.output().splitlines():
            if line.startswith('{"event": "ready"'):
                ready: dict[str, str] = json.loads(line)
                return ready
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_loopback_address() -> str:
    """The first of 127.0.0.1, 127.0.0.2, ... whose libfranka ports are free."""
    for last in range(1, 100):
        host = f"127.0.0.{last}"
        if all(_is_free(host, port) for port in _FCI_PORTS):
            return host
    raise RunError(
        f"no loopback address from 127.0.0.1 on has ports {_FCI_PORTS[0]} and {_FCI_PORTS[1]} "
        "free; another simulator may still run"
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
