"""What a run leaves behind, whole whatever happens."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robot_client.arms.arm import ArmState
from robot_client.arms.dummy import START_POSE, DummyArm
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import CameraError, RunError
from robot_client.film import Film
from robot_client.protocol import Act
from robot_client.recorder import Recorder, make_folder, write_json
from robot_client.records import Event, StepRecord
from robot_client.report import read_episode, write_report
from robot_client.safety import filter_action
from robot_client.supervisor import Truth
from robot_client.tasks import SubGoal, Task
from trajectories.dataset import open_episode
from trajectories.droid_raw import JOURNAL_FILE
from trajectories.recorder import recover

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


def film(folder: Path, camera: object, seconds: float) -> Film:
    arm = DummyArm()
    with (
        Recorder(folder, TASK, [GOAL]) as recorder,
        Film(arm, camera, recorder, TASK, {"model": "none"}) as running,  # type: ignore[arg-type]
    ):
        time.sleep(seconds)
        recorder.add(record(3))
        time.sleep(seconds)
        running.is_success = True
    return running


def test_the_film_is_a_droid_episode_with_frame_state_and_plan_in_every_row(tmp_path: Path) -> None:
    running = film(tmp_path, TestCard(), 0.6)
    assert running.problem is None
    with open_episode(tmp_path) as episode:
        assert len(episode) >= 4
        assert episode.success is True
        assert episode.provenance.format == "droid_raw"
        np.testing.assert_allclose(episode.states[0], START_POSE, atol=1e-9)
        assert (np.diff(episode.times_s) > 0).all()
        frames = episode.camera("left").read([0, len(episode) - 1])
        assert frames.shape[1:] == (256, 256, 3)
        assert frames[0, 180, 250, 0] > 150  # the card's last bar is red
        assert frames[0, 180, 250, 2] < 110
        assert episode.signals["planner/seq"][0] == -1
        assert episode.signals["planner/seq"][-1] == 3
        np.testing.assert_allclose(episode.signals["action/raw"][-1][0], 0.3)
        np.testing.assert_allclose(episode.signals["action/filtered"][-1][0], 0.15, atol=1e-6)


def test_a_frame_of_odd_size_is_filmed_without_its_last_row_and_column(tmp_path: Path) -> None:
    class Odd(TestCard):
        def newest(self, max_age_s: float) -> CapturedFrame:
            captured = super().newest(max_age_s)
            return CapturedFrame(captured.frame[:-1, :-3], captured.t_capture)

    assert film(tmp_path, Odd(), 0.3).problem is None
    with open_episode(tmp_path) as episode:
        assert episode.camera("left").frame_size == (254, 252)


def test_a_camera_or_arm_that_fails_ends_the_film_and_not_the_run(tmp_path: Path) -> None:
    class Failing(TestCard):
        def newest(self, max_age_s: float) -> CapturedFrame:
            if self._count > 3:
                raise CameraError("unplugged")
            return super().newest(max_age_s)

    assert film(tmp_path, Failing(), 0.5).problem == "unplugged"
    with open_episode(tmp_path) as episode:
        assert len(episode) >= 1


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from robot_client.arms.dummy import DummyArm
from robot_client.cameras.testcard import TestCard
from robot_client.film import Film
from robot_client.recorder import Recorder
from robot_client.tasks import SubGoal, Task
task = Task(name="test", description="d", sub_goals=(SubGoal(name="a", max_steps=3),))
folder = Path(sys.argv[1])
with Recorder(folder, task, [np.full((8, 8, 3), 200, np.uint8)]) as recorder:
    with Film(DummyArm(), TestCard(), recorder, task, {}):
        print("filming", flush=True)
        time.sleep(60)
"""


def test_a_process_that_is_killed_leaves_an_episode_that_can_be_recovered(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "filming"
    journal = tmp_path / JOURNAL_FILE
    deadline = time.monotonic() + 30
    while len(journal.read_text().splitlines()) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert recover(tmp_path) == tmp_path
    with open_episode(tmp_path) as episode:
        assert len(episode) >= 5
        assert len(episode.camera("left")) == len(episode)


def test_events_are_on_disk_at_once(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.note(Event("hold", "no plan in time", {"missed": 2}))
        (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["missed"] == 2
    assert json.loads(line)["kind"] == "hold"


def test_every_clamp_is_recorded_with_its_rule_beside_the_raw_action(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.add(record(0))
    (line,) = read_episode(tmp_path)
    assert [found["rule"] for found in line["findings"]] == ["step"]
    assert line["findings"][0]["value"] == pytest.approx(0.3)
    assert line["raw_actions"][0][0] == 0.3


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


def test_the_film_ends_with_the_arm_where_the_run_has_left_it(tmp_path: Path) -> None:
    arm, end = DummyArm(), START_POSE.copy()
    end[0] += 0.07
    with (
        Recorder(tmp_path, TASK, [GOAL]) as recorder,
        Film(arm, TestCard(), recorder, TASK, {}) as running,
    ):
        time.sleep(0.25)
        arm.move_to(end, 0.0)
        recorder.add(record(9))
    assert running.problem is None
    with open_episode(tmp_path) as episode:
        np.testing.assert_allclose(episode.states[-1][:3], end[:3], atol=1e-9)
        assert episode.signals["planner/seq"][-1] == 9
        frames = episode.camera("left").read([len(episode) - 1])
        assert frames.shape[0] == 1


def test_rows_carry_the_plan_that_is_followed_while_the_arm_moves(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [GOAL]) as recorder:
        recorder.show(record(4))
        assert recorder.signals["planner/seq"] == 4
        assert recorder.signals["action/is_executed"]
    assert read_episode(tmp_path) == []


def test_a_camera_that_hangs_at_the_end_does_not_hold_the_run_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robot_client.film._END_TIMEOUT_S", 0.2)
    released = threading.Event()

    class Hanging(TestCard):
        def newest(self, max_age_s: float) -> CapturedFrame:
            if self._count > 3:
                released.wait(30.0)
            return super().newest(max_age_s)

    running = film(tmp_path, Hanging(), 0.5)
    assert "recover" in str(running.problem)
    released.set()
    running._thread.join()  # it closes the film itself, late
    with open_episode(tmp_path) as episode:
        assert len(episode) >= 2
        assert len(episode.camera("left")) == len(episode)
