"""Preflight: everything that is not ready is named, with what to do, and nothing moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_client import cli
from robot_client.arms.dummy import START_POSE, DummyArm
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import CameraError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.preflight import Preflight
from robot_client.rest import RestClient
from tests.robot_client.conftest import TASK, WatchedArm


@pytest.fixture(autouse=True)
def card(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_client.preflight._WATCH_S", 0.4)
    monkeypatch.setattr("robot_client.preflight._HEARTBEATS_S", 0.4)
    stand_in.card = {"name": "none", "frame_size": [8, 8]}


def results(stand_in: Any, **changes: Any) -> dict[str, Any]:
    values = {
        "rest": RestClient(stand_in.url),
        "client": PlannerClient(ServerAddress(stand_in.endpoint)),
        "arm": DummyArm(),
        "camera": TestCard(),
        "task": TASK,
        "needs_realtime": False,
    }
    return {check.name: check for check in Preflight(**{**values, **changes}).checks()}


def test_a_ready_cell_passes_every_check_and_nothing_moves(stand_in: Any) -> None:
    arm = WatchedArm()
    checks = results(stand_in, arm=arm)
    assert all(check.is_ok for check in checks.values()), checks
    assert set(checks) == {
        *("clock", "server", "robot door", "model", "heartbeat", "camera", "picture"),
        *("frame rate", "arm", "place", "at rest", "gripper"),
    }
    assert "move" not in arm.names()


def test_a_server_that_is_not_there_is_the_only_failure(stand_in: Any) -> None:
    checks = results(stand_in, rest=RestClient("http://127.0.0.1:9"))
    assert [name for name, check in checks.items() if not check.is_ok] == ["server"]
    assert "uvicorn" in checks["server"].text


def test_a_camera_that_fails_is_told_and_the_arm_is_still_checked(stand_in: Any) -> None:
    class Unplugged(TestCard):
        def connect(self) -> None:
            raise CameraError("camera 0 cannot be opened")

    checks = results(stand_in, camera=Unplugged())
    assert not checks["camera"].is_ok
    assert checks["arm"].is_ok


def test_a_dark_or_slow_camera_fails(stand_in: Any) -> None:
    class Dark(TestCard):
        def newest(self, max_age_s: float) -> CapturedFrame:
            captured = super().newest(max_age_s)
            frame = captured.frame // 30
            return CapturedFrame(frame, np.floor(captured.t_capture / 10) * 10 + 10)

    checks = results(stand_in, camera=Dark())
    assert not checks["picture"].is_ok
    assert "exposure" in checks["picture"].text
    assert not checks["frame rate"].is_ok


def test_an_arm_outside_its_workspace_or_too_low_fails(stand_in: Any) -> None:
    outside = START_POSE.copy()
    outside[1] = 0.6
    assert "outside" in results(stand_in, arm=DummyArm(outside))["place"].text
    low = START_POSE.copy()
    low[2] = 0.112
    assert not results(stand_in, arm=DummyArm(low))["place"].is_ok


def test_a_real_arm_wants_a_real_time_kernel(stand_in: Any) -> None:
    check = results(stand_in, needs_realtime=True)["kernel"]
    assert check.is_ok == (Path("/sys/kernel/realtime").is_file())


def test_the_command_says_each_result_and_returns_whether_all_passed(
    stand_in: Any, tmp_path: Path, capsys: Any
) -> None:
    task = tmp_path / "one.yaml"
    task.write_text("name: one\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    where = ["--server", stand_in.endpoint, "--http", stand_in.url]
    arguments = ["preflight", "--task", str(task), "--arm", "dummy"]
    assert cli.main([*arguments, *where]) == cli.DONE
    assert "ok    camera" in capsys.readouterr().out
    arguments += ["--http", "http://127.0.0.1:9", "--server", "tcp://127.0.0.1:9"]
    assert cli.main(arguments) == cli.NOT_ACHIEVED
    assert "FAIL  server" in capsys.readouterr().out
