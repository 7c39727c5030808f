"""A real server process, killed in the middle of an episode: the arm holds, whatever it was doing."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robot_client.arms.dummy import DummyArm
from robot_client.cameras.testcard import TestCard
from robot_client.codec import encode_image
from robot_client.loop import ControlLoop
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.records import StepRecord
from robot_client.rest import RestClient, SessionOptions
from robot_client.server_link import ServerLink
from robot_client.server_process import ServerProcess
from robot_client.tasks import SubGoal, Task

TASK = Task(
    name="endless",
    description="Move until there are no more plans.",
    sub_goals=(SubGoal(name="move", max_steps=500),),
    settled_step_m=0.0,
    stop_after_missed=2,
)
ALLOWED_S = 1.0  # beyond one control period; `benchmarks.client` holds it to 0.1 on a quiet machine


class SlowArm(DummyArm):
    """Takes twice the time it is given, as under a speed cap; notes when it was told what."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[float] = []
        self.holds: list[float] = []

    def move_to(self, pose: np.ndarray, duration_s: float) -> None:
        self.moves.append(time.monotonic())
        super().move_to(pose, 2 * duration_s)

    def hold(self) -> None:
        self.holds.append(time.monotonic())
        super().hold()


def link_to(server: ServerProcess) -> ServerLink:
    rest = RestClient(server.wait())
    client = PlannerClient(ServerAddress(rest.model()["zmq_endpoint"]))
    goal = np.ascontiguousarray(TestCard().newest(1.0).frame[:, ::-1])
    return ServerLink(client, rest, SessionOptions(), [encode_image(goal, "png").data])


@pytest.mark.parametrize("delay_s", [0.0, 0.4], ids=["before a question", "during a motion"])
def test_a_killed_server_leaves_the_arm_holding_within_a_period(
    tmp_path: Path, tiny_model: Path, delay_s: float
) -> None:
    killed: list[float] = []
    arm = SlowArm()
    with ServerProcess(tmp_path, tiny_model) as server:

        def kill() -> None:
            assert server._process is not None
            server._process.kill()
            killed.append(time.monotonic())

        def kill_after_two_steps(record: StepRecord) -> None:
            if record.step != 1 or not record.is_executed:
                return
            # The next plan comes at once, so a little later the arm is on its way.
            threading.Timer(delay_s, kill).start() if delay_s else kill()

        link = link_to(server)
        link.open()
        period_s = link.client.control_period_s
        loop = ControlLoop(arm, TestCard(), link, TASK, True, kill_after_two_steps)
        end = loop.run()
        link.close()
    assert not end.is_complete
    first_hold = min(when for when in arm.holds if when > killed[0])
    assert first_hold - killed[0] < period_s + ALLOWED_S
    assert not [when for when in arm.moves if when > killed[0]]
