"""A planner that knows the goal poses, behind the real wire: what the robot's side itself can do.

Where this fails, no world model could succeed; where a model fails and this does not, it is the plan.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from robot_client import protocol
from robot_client.arms.franky_arm import FrankyArm
from robot_client.arms.sim import SIMULATION_SETTINGS, SimulatorOptions, SimulatorProcess
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import Act, ActionLimits, Hello, Observe, Ping, Pong, Welcome
from robot_client.recorder import Recorder, make_folder
from robot_client.rest import RestClient, SessionOptions
from robot_client.run import Outcome, Robot, carry_out, read_goals
from robot_client.server_link import ServerLink
from robot_client.supervisor import Supervisor
from robot_client.tasks import load_task
from simulation.tasks import make_task
from trajectories import poses

TASKS = Path(__file__).parents[2] / "configs" / "tasks"
MAX_STEP_M = 0.15


class PerfectPlanner:
    """Answers every observation with the step towards the goal's own pose."""

    def __init__(self, goals: list[np.ndarray]) -> None:
        self._goals = goals
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._ending.is_set():
            if self._socket.poll(10):
                peer, payload = self._socket.recv_multipart()
                reply = self._answer(protocol.decode(payload))
                if reply is not None:
                    self._socket.send_multipart([peer, reply.encode()])

    def _answer(self, message: protocol.Message) -> protocol.Message | None:
        if isinstance(message, Ping):
            return Pong(t=message.t)
        if isinstance(message, Hello):
            limits = ActionLimits(MAX_STEP_M, 0.0, 1.0)
            return Welcome(1, "perfect", "s1", "none", (128, 128), 1.0, limits)
        return self._act(message) if isinstance(message, Observe) else None

    def _act(self, message: Observe) -> Act:
        action = poses.difference(message.state, self._goals[message.goal_index])
        action[3:] = 0.0
        step = np.clip(action, -MAX_STEP_M, MAX_STEP_M)[None].astype(np.float64)
        left = float(np.abs(action[:3]).sum())
        return Act(
            "s1", message.seq, step, message.state + step, left, left, 1.0, 1.0, 0.0, 1,
            message.goal_index,
        )  # fmt: skip


class NoRest(RestClient):
    """The perfect planner needs no goal images."""

    def create_session(self, options: SessionOptions) -> str:
        return "s1"

    def put_goals(self, session: str, images: Any) -> list[dict[str, Any]]:
        return [{} for _ in images]


@pytest.fixture
def planners() -> Iterator[list[PerfectPlanner]]:
    started: list[PerfectPlanner] = []
    yield started
    for planner in started:
        planner.close()


def run(name: str, seed: int, runs: Path, planners: list[PerfectPlanner]) -> Outcome:
    task = load_task(TASKS / f"{name}.yaml")
    layout = make_task(name, seed)  # type: ignore[arg-type]
    planner = PerfectPlanner([goal.pose for goal in layout.sub_goals])
    planners.append(planner)
    folder = make_folder(runs, name)
    with SimulatorProcess(SimulatorOptions(name, seed), folder) as simulator:
        ready = simulator.wait()
        supervisor = Supervisor(ready.supervisor)
        files = supervisor.goals()
        client = PlannerClient(ServerAddress(planner.endpoint))
        link = ServerLink(client, NoRest(), SessionOptions(), files)
        arm = FrankyArm(ready.robot, SIMULATION_SETTINGS)
        robot = Robot(arm, SimulatedCamera(ready.camera), is_moving_allowed=True)
        with Recorder(folder, task, read_goals(files, task)) as recorder:
            outcome = carry_out(task, robot, link, recorder, supervisor)
        supervisor.close()
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reach", "grasp", "pick_and_place"])
def test_with_perfect_plans_the_task_succeeds(
    name: str, tmp_path: Path, planners: list[PerfectPlanner]
) -> None:
    outcome = run(name, 3, tmp_path, planners)
    assert outcome.truth is not None
    assert outcome.truth.is_success, outcome.headline
