"""Goals that are frames of recorded episodes."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from planner_server.episode_frames import read_episode_frame
from planner_server.errors import PlannerError
from trajectories.recorder import CameraSpec, EpisodeRecorder


@pytest.fixture(scope="module")
def episodes(shared_dir: Path) -> Path:
    return shared_dir / "data"


NAME = "franka_example_traj.npz"


def test_a_frame_of_a_recording_is_a_goal(
    run_server: Any, make_settings: Callable[..., Any], episodes: Path
) -> None:
    recorded = np.load(episodes / NAME)["observations"][0]
    with run_server(make_settings(episodes=episodes)) as address, address.http() as http:
        session = http.post("/v1/sessions").json()["id"]
        for index in (-1, 0):
            goals = [{"images": [{"episode": NAME, "frame": index}]}]
            path = f"/v1/sessions/{session}/goals"
            answer = http.put(path, json={"goals": goals}).raise_for_status().json()
            assert (answer["goals"][0]["width"], answer["goals"][0]["height"]) == (256, 256)
            stored = http.get(f"{path}/0/image").content
            shown = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(shown, recorded[index])


def test_a_frame_of_what_a_robot_recorded_is_a_goal_and_is_planned_for(
    run_server: Any, make_settings: Callable[..., Any], tmp_path: Path, pose: list[float]
) -> None:
    folder = tmp_path / "monday"
    folder.mkdir()
    cameras = {name: CameraSpec((32, 48)) for name in ("left", "right")}
    recorder = EpisodeRecorder(folder, cameras, fps=10.0, task="tidy up")
    for row in range(3):
        frames = {
            "left": np.full((32, 48, 3), 60 * row, np.uint8),
            "right": np.full((32, 48, 3), 200, np.uint8),
        }
        recorder.append(np.array(pose), 0.1 * row, frames, {})
    recorder.close(success=True)
    with run_server(make_settings(episodes=tmp_path)) as address, address.http() as http:
        session = http.post("/v1/sessions").json()["id"]
        path = f"/v1/sessions/{session}"
        for camera, frame, brightness in (("left", 0, 0), ("left", -1, 120), ("right", 1, 200)):
            source = {"episode": "monday", "frame": frame, "camera": camera}
            goals = {"goals": [{"images": [source]}]}
            http.put(f"{path}/goals", json=goals).raise_for_status()
            stored = http.get(f"{path}/goals/0/image").content
            shown = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_allclose(shown.astype(int), brightness, atol=8)
        body = {"frame": base64.b64encode(stored).decode(), "state": pose}
        plan = http.post(f"{path}/plan", json=body).raise_for_status().json()
        assert plan["energy_now"] == 0.0  # the very goal


@pytest.mark.parametrize(
    ("name", "index", "camera", "code"),
    [
        ("none", 0, None, "not_found"),
        ("../golden/index.json", 0, None, "not_found"),
        ("/etc/passwd", 0, None, "not_found"),
        (f"{NAME}#x", 0, None, "not_found"),
        (f"{NAME}#/../../etc#0", 0, None, "not_found"),
        (f"{NAME}#::http://127.0.0.1:1/x#0", 0, None, "not_found"),
        (f"{NAME}#99", 0, None, "invalid_request"),
        (NAME, 99, None, "not_found"),
        (NAME, -99, None, "not_found"),
        (NAME, 0, "nobody's camera", "not_found"),
        (".", 0, None, "invalid_request"),
    ],
)
def test_what_is_not_there_or_not_below_the_folder_is_refused(
    episodes: Path, name: str, index: int, camera: str | None, code: str
) -> None:
    with pytest.raises(PlannerError) as caught:
        read_episode_frame(episodes, name, index, camera)
    assert caught.value.code == code
