"""What a run leaves behind, whole whatever happens."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_client.arms.arm import ArmState
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import RunError
from robot_client.loop import StepRecord
from robot_client.protocol import Act
from robot_client.recorder import Recorder, VideoThread, make_folder, write_json
from robot_client.report import read_episode, write_report
from robot_client.safety import filter_action
from robot_client.supervisor import Truth
from robot_client.tasks import SubGoal, Task

TASK = Task(name="test", description="Do <it>.", sub_goals=(SubGoal(name="a", max_steps=3),))
GOAL = np.full((8, 8, 3), 200, np.uint8)
POSE = np.array([0.5, 0.0, 0.4, np.pi, 0.0, 0.0, 0.0])
TRUTH = Truth(is_success=False, distance_m=0.1, reason="10 cm away", real_time_factor=1.0)


def record(step: int, x_m: float = 0.5) -> StepRecord:
    pose = POSE.copy()
    pose[0] = x_m
    action = np.array([[0.3, 0, 0, 0, 0, 0, 0]])
    act = Act("s", step, action, action, 0.3, 0.5, 1.0, 2.0, 0.0, 64, warnings=("careful",))
    return StepRecord(
        step=step,
        goal_index=0,
        captured=CapturedFrame(np.zeros((8, 8, 3), np.uint8), time.monotonic()),
        state=ArmState(pose, time.monotonic()),
        act=act,
        filtered=filter_action(action[0], pose, TASK.safety),
        is_executed=True,
        latency_ms=12.0,
    )


def test_each_pass_is_on_disk_at_once_with_raw_filtered_and_real_motion(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.add(record(0), TRUTH)
        recorder.add(record(1, x_m=0.55))
        lines = read_episode(tmp_path)  # while the file is still open
    assert lines[0]["raw_actions"][0][0] == 0.3
    assert lines[0]["filtered_action"][0] == pytest.approx(TASK.safety.max_step_m)
    assert lines[1]["moved"][0] == pytest.approx(0.05)
    assert lines[0]["simulator_truth"]["reason"] == "10 cm away"
    assert lines[1]["simulator_truth"] is None
    assert lines[0]["warnings"][0] == "careful"
    assert {"energy", "energy_now", "plan_ms", "latency_ms", "time"} <= set(lines[0])


def test_a_line_cut_short_by_a_crash_does_not_spoil_the_others(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.add(record(0))
    with (tmp_path / "episode.jsonl").open("a") as file:
        file.write('{"step": 1, "sta')
    assert [line["step"] for line in read_episode(tmp_path)] == [0]


def test_a_summary_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_folders_of_the_same_second_get_different_names(tmp_path: Path) -> None:
    assert len({make_folder(tmp_path, "reach") for _ in range(4)}) == 4


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match="--runs"):
        make_folder(blocker, "reach")


def test_the_film_shows_camera_and_goal_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "camera.mp4"
    with Recorder(tmp_path, TASK, [GOAL]) as recorder, VideoThread(path, TestCard(), recorder):
        time.sleep(0.6)
    capture = cv2.VideoCapture(str(path))
    has_frame, bgr = capture.read()
    capture.release()
    assert has_frame
    assert bgr.shape == (384, 768, 3)
    np.testing.assert_allclose(bgr[100:300, 500:700].mean(), 200, atol=8)  # the grey goal
    assert bgr[180, 350, 2] > 150  # the card's last bar is red
    assert bgr[180, 350, 0] < 110


def test_the_report_is_one_page_that_carries_its_images(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.add(record(0), TRUTH)
        recorder.add(StepRecord(1, 0, problem="no plan <in time>"))
        recorder.summarise(
            {
                "task": "test",
                "description": TASK.description,
                "headline": "NOT ACHIEVED: 10 cm away",
                "verdict": {"is_success": False},
                "settings": "none",
            }
        )
    page = write_report(tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 3  # start, goal, energy
    assert "NOT ACHIEVED" in page
    assert "no plan &lt;in time&gt;" in page
    assert "Do &lt;it&gt;." in page
    assert "http" not in page.replace("http-equiv", "")
