"""Teaching: keys move the arm within its limits, enter takes the goal images, a task file comes out."""

import contextlib
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot_client import cli
from robot_client.arms.dummy import START_POSE, DummyArm
from robot_client.arms.franky_arm import FrankyArm, FrankySettings
from robot_client.cameras.testcard import TestCard
from robot_client.commands import equipment, teach
from robot_client.tasks import SubGoal, Task, load_task
from robot_client.teaching import Teaching
from tests.robot_client.conftest import WatchedArm

REPOSITORY = Path(__file__).parents[2]
TASK = Task(
    name="fetch",
    description="d",
    sub_goals=(SubGoal(name="grasp", max_steps=4), SubGoal(name="lift", max_steps=3)),
)


def teaching(folder: Path, said: list[str], **changes: Any) -> Teaching:
    values = {
        "arm": DummyArm(),
        "camera": TestCard(),
        "task": TASK,
        "folder": folder,
        "is_moving_allowed": True,
        "say": said.append,
    }
    return Teaching(**{**values, **changes})


def press(lesson: Teaching, keys: str) -> None:
    for key in keys:
        lesson.press(key)
        while lesson.arm.is_moving():
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("keys", "moved"),
    [
        ("w", (0.02, 0, 0)),
        ("s", (-0.02, 0, 0)),
        ("a", (0, 0.02, 0)),
        ("d", (0, -0.02, 0)),
        ("r", (0, 0, 0.02)),
        ("f", (0, 0, -0.02)),
        ("+w", (0.04, 0, 0)),
        ("-w", (0.01, 0, 0)),
        ("z?", (0, 0, 0)),
    ],
)
def test_each_key_moves_the_flange_its_way(
    tmp_path: Path, keys: str, moved: tuple[float, float, float]
) -> None:
    lesson = teaching(tmp_path, [])
    press(lesson, keys)
    np.testing.assert_allclose(lesson.arm.state().pose[:3] - START_POSE[:3], moved, atol=1e-9)


def test_keys_cannot_leave_the_workspace(tmp_path: Path) -> None:
    said: list[str] = []
    lesson = teaching(tmp_path, said)
    press(lesson, "++" + "f" * 8)
    low = TASK.safety.workspace_low_m[2]
    assert lesson.arm.state().pose[2] >= low - 1e-9
    assert any("clamped" in text or "fingertips" in text for text in said)


def test_an_arm_that_is_guided_by_hand_is_not_moved_by_keys(tmp_path: Path) -> None:
    lesson = teaching(tmp_path, [], is_moving_allowed=False)
    press(lesson, "wasdrfqeoc")
    np.testing.assert_array_equal(lesson.arm.state().pose, START_POSE)


def test_taught_images_and_task_can_be_run_as_they_are(tmp_path: Path) -> None:
    lesson = teaching(tmp_path, [])
    press(lesson, "w\nr")
    assert not lesson.is_finished
    press(lesson, "\n")
    assert lesson.is_finished
    task = load_task(lesson.finish())
    assert [sub_goal.name for sub_goal in task.sub_goals] == ["grasp", "lift"]
    for sub_goal in task.sub_goals:
        assert sub_goal.image is not None
        assert cv2.imread(str(sub_goal.image)).shape == (256, 256, 3)
    assert "fetch-grasp.png" in (tmp_path / "fetch.yaml").read_text()
    assert str(tmp_path) not in (tmp_path / "fetch.yaml").read_text()  # the folder can be moved


def test_no_picture_is_taken_while_the_arm_moves_or_the_camera_is_dark(tmp_path: Path) -> None:
    said: list[str] = []
    lesson = teaching(tmp_path, said)
    lesson.press("w")
    lesson.press("\n")
    assert "still moves" in said[-1]

    class Dark(TestCard):
        def newest(self, max_age_s: float) -> Any:
            captured = super().newest(max_age_s)
            captured.frame[:] = 0
            return captured

    lesson = teaching(tmp_path, said, camera=Dark())
    lesson.press("\n")
    assert "empty" in said[-1]
    assert lesson.wanted == "grasp"


def test_teach_reads_single_keys_from_a_terminal(tmp_path: Path) -> None:
    task = tmp_path / "one.yaml"
    task.write_text("name: one\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    output = tmp_path / "taught"
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "robot_client", "teach", "--task", str(task)]
    process = subprocess.Popen(
        [*command, "--arm", "dummy", "--output", str(output)],
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    os.close(slave)
    assert process.stdout is not None
    while "sub-goal a" not in (line := process.stdout.readline()):
        assert line
    os.write(master, b"w")
    time.sleep(1.0)
    os.write(master, b"\n")
    said, _ = process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == cli.DONE
    assert "robot-client run --task" in said
    assert load_task(output / "one.yaml").sub_goals[0].image == output / "one-a.png"


def test_giving_up_writes_no_task(tmp_path: Path) -> None:
    task = tmp_path / "one.yaml"
    task.write_text("name: one\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    command = [sys.executable, "-m", "robot_client", "teach", "--task", str(task)]
    result = subprocess.run(
        [*command, "--arm", "dummy", "--output", str(tmp_path / "taught")],
        input="x",
        text=True,
        capture_output=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.returncode == cli.NOT_ACHIEVED
    assert list((tmp_path / "taught").iterdir()) == []


def test_a_key_that_is_held_down_makes_one_step_after_the_other(tmp_path: Path) -> None:
    arm = WatchedArm()
    lesson = teaching(tmp_path, [], arm=arm)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        lesson.press("w")
        time.sleep(0.03)
    assert arm.names() == ["move", "move"]


def test_another_key_brakes_the_step_under_way_and_moves_from_rest(tmp_path: Path) -> None:
    arm = WatchedArm()
    lesson = teaching(tmp_path, [], arm=arm)
    lesson.press("w")
    time.sleep(0.2)
    lesson.press("s")
    assert arm.names() == ["move", "hold"]
    here_m = arm.state().pose[0]
    lesson.press("s")
    while arm.is_moving():
        time.sleep(0.01)
    assert arm.names() == ["move", "hold", "move"]
    assert arm.state().pose[0] == pytest.approx(here_m - 0.02)


def test_a_franka_begins_each_step_from_rest_and_stays_on_the_checked_way(
    robot_host: str, tmp_path: Path
) -> None:
    arm = FrankyArm(robot_host, FrankySettings(needs_realtime=False, yield_force_n=None))
    arm.connect()
    lesson = teaching(tmp_path, [], arm=arm, step_m=0.08)
    time.sleep(0.5)
    start = arm.state().pose
    lesson.press("a")
    deadline = time.monotonic() + 10.0
    while arm.state().pose[1] < start[1] + 0.01 and time.monotonic() < deadline:
        time.sleep(0.005)
    path = [arm.state().pose]
    for key in "--" + "r" * 30:
        lesson.press(key)
        time.sleep(0.05)
        path.append(arm.state().pose)
    arm.disconnect()
    way = np.array(path) - start
    sideways_m, up_m = way[:, 1], way[:, 2]
    assert 0.01 <= sideways_m[0] < sideways_m[-1] < 0.07  # braked on its way
    assert up_m[-1] > 0.01
    np.testing.assert_allclose(sideways_m[up_m > 1e-3], sideways_m[-1], atol=1e-3)


class Stalled(TestCard):
    """Takes its time to let go, as a USB camera does when the bus stalls."""

    def disconnect(self) -> None:
        time.sleep(1.0)


class Interrupted(WatchedArm):
    """Stops when it is disconnected, as a Franka does."""

    def disconnect(self) -> None:
        self.stop()


@pytest.mark.parametrize("end", [KeyboardInterrupt(), "x", RuntimeError("a fault")])
def test_however_teaching_ends_the_arm_is_stopped_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: Any
) -> None:
    arm, ended = Interrupted(), []
    body = equipment.Equipment(arm, Stalled(), None, is_moving_allowed=True)
    monkeypatch.setattr(equipment, "robot_of", lambda *arguments: body)

    def key(timeout_s: float) -> str:
        if "move" not in arm.names():
            return "w"
        ended.append(time.monotonic())
        if isinstance(end, BaseException):
            raise end
        return str(end)

    monkeypatch.setattr(teach, "read_key", key)
    task = tmp_path / "one.yaml"
    task.write_text("name: one\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    command = ["teach", "--task", str(task), "--output", str(tmp_path / "taught")]
    with contextlib.suppress(RuntimeError):
        cli.main([*command, "--arm", "franky", "--arm-motion"])
    assert arm.time_of("stop") - ended[0] < 0.2
