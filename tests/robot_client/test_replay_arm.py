"""A recorded episode as arm and camera."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_client import cli
from robot_client.arms.dummy import START_POSE
from robot_client.arms.replay import Playback, ReplayArm, ReplayCamera
from robot_client.errors import ArmError
from trajectories.recorder import CameraSpec, EpisodeRecorder

ROWS, PERIOD_S = 20, 0.1


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    """Two seconds of a flange that moves along y, each frame brighter than the one before."""
    folder = tmp_path / "episode"
    rng = np.random.default_rng(0)
    with EpisodeRecorder(folder, {"left": CameraSpec((32, 32))}, fps=10.0) as recorder:
        for row in range(ROWS):
            pose = START_POSE.copy()
            pose[1] = 0.01 * row
            frame = rng.integers(0, 40, (32, 32, 3), dtype=np.uint8) + np.uint8(10 * row)
            recorder.append(pose, PERIOD_S * row, {"left": frame})
        recorder.close(True)
    return folder


def test_recorded_time_goes_on_only_while_the_arm_is_told_to_move(episode: Path) -> None:
    playback = Playback(episode)
    arm, camera = ReplayArm(playback), ReplayCamera(playback)
    time.sleep(0.3)
    assert arm.state().pose[1] == 0.0
    dark = camera.newest(1.0).frame.mean()
    arm.move_to(START_POSE, 0.5)
    assert arm.is_moving()
    while arm.is_moving():
        time.sleep(0.01)
    assert arm.state().pose[1] == pytest.approx(0.05, abs=0.011)
    assert camera.newest(1.0).frame.mean() > dark + 20
    time.sleep(0.2)
    assert arm.state().pose[1] == pytest.approx(0.05, abs=0.011)
    arm.disconnect()


def test_a_hold_stops_recorded_time(episode: Path) -> None:
    arm = ReplayArm(Playback(episode))
    arm.move_to(START_POSE, 1.5)
    time.sleep(0.2)
    arm.hold()
    assert not arm.is_moving()
    assert arm.state().pose[1] < 0.14


def test_after_its_last_row_the_arm_moves_no_more(episode: Path) -> None:
    arm = ReplayArm(Playback(episode))
    arm.move_to(START_POSE, 10.0)
    while arm.is_moving():
        time.sleep(0.01)
    with pytest.raises(ArmError, match="over"):
        arm.move_to(START_POSE, 1.0)


def test_a_folder_that_is_no_episode_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="cannot be played"):
        Playback(tmp_path)


def test_a_run_over_a_recorded_episode_asks_for_plans_and_is_recorded_itself(
    stand_in: Any, episode: Path, tmp_path: Path, capsys: Any
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("name: short\ndescription: d\nsub_goals: [{name: a, max_steps: 3}]\n")
    goal = next((tmp_path / "episode").glob("recordings/MP4/*.mp4"))
    image = tmp_path / "goal.png"
    import cv2

    cv2.imwrite(str(image), np.full((32, 32, 3), 90, np.uint8))
    assert goal.is_file()
    arguments = ["run", "--task", str(task), "--goal", str(image), "--arm", "replay"]
    arguments += ["--episode", str(episode), "--server", stand_in.endpoint, "--http", stand_in.url]
    assert cli.main([*arguments, "--runs", str(tmp_path / "runs")]) == cli.DONE
    ys = [observed.state[1] for observed in stand_in.observed]
    assert len(ys) == 3
    assert ys[0] == 0.0
    assert ys[0] < ys[1] < ys[2]
