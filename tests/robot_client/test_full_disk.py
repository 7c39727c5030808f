"""A disk that is full in the middle of a run: the arm goes on, it is told, and what was written is whole.

The kernel's limit on the size of a file stands in for the full disk: writes fail in the same way, in
Python and in the video library alike.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot_client import cli
from robot_client.errors import RecordingError
from robot_client.recorder import Recorder
from robot_client.records import Event
from robot_client.report import read_episode
from robot_client.tasks import SubGoal, Task
from trajectories.dataset import open_episode
from trajectories.json_lines import JsonLines
from trajectories.recorder import recover

REPOSITORY = Path(__file__).parents[2]
STEPS = 8
TASK = Task(name="test", description="d", sub_goals=(SubGoal(name="a", max_steps=3),))


def limited_to(size_bytes: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def run_limited(stand_in: Any, tmp_path: Path, size_bytes: int) -> tuple[int, str, Path]:
    """One run of the program; exit status, what it said, and its folder."""
    task, goal = tmp_path / "task.yaml", tmp_path / "goal.png"
    task.write_text(
        "name: full\ndescription: d\nsettled_step_m: 0.0\n"
        f"sub_goals: [{{name: a, max_steps: {STEPS}}}]\n"
    )
    cv2.imwrite(str(goal), np.full((16, 16, 3), 90, np.uint8))
    arguments = ["run", "--task", str(task), "--goal", str(goal), "--arm", "dummy", "--unattended"]
    arguments += ["--server", stand_in.endpoint, "--http", stand_in.url]
    done = subprocess.run(
        [sys.executable, "-m", "robot_client", *arguments, "--runs", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
        timeout=120,
        preexec_fn=limited_to(size_bytes),
    )
    (folder,) = (tmp_path / "runs").iterdir()
    return done.returncode, done.stdout + done.stderr, folder


def test_a_film_that_finds_no_room_is_told_and_the_run_goes_on(
    stand_in: Any, tmp_path: Path
) -> None:
    status, said, folder = run_limited(stand_in, tmp_path, 13_000)
    assert status == cli.DONE, said
    assert said.count("RECORDING: the film has a gap") == 1
    assert sum(line["is_executed"] for line in read_episode(folder)) == STEPS
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events].count("recording") == 1
    recover(folder)  # where there was no room even for that
    with open_episode(folder) as episode:
        assert 1 <= len(episode) == len(episode.camera("left"))
        assert np.isfinite(episode.states).all()


def test_lines_that_find_no_room_are_counted_and_those_before_stay_whole(
    stand_in: Any, tmp_path: Path
) -> None:
    status, said, folder = run_limited(stand_in, tmp_path, 4_000)
    assert status == cli.DONE, said
    assert said.count("RECORDING: the log has a gap") == 1
    lines = read_episode(folder)
    assert 1 <= len(lines) < STEPS
    assert [line["step"] for line in lines] == list(range(len(lines)))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["end"]["steps"] == STEPS
    assert summary["recording"]["lost"] >= STEPS - len(lines)
    assert summary["recording"]["problem"]


def test_a_run_that_cannot_write_at_all_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot write"):
        Recorder(tmp_path / "missing", TASK, [np.zeros((8, 8, 3), np.uint8)])


LIMITED = """
import resource, sys
from pathlib import Path
from trajectories.json_lines import JsonLines
lines = JsonLines(Path(sys.argv[1]))
lines.add({"n": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    lines.add({"n": "x" * 100})
except OSError as error:
    print("refused", error.errno)
lines.add({"n": 1})
"""


def test_a_line_without_room_leaves_no_half_and_a_shorter_one_may_follow(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("refused")
    assert path.read_text() == '{"n": 0}\n{"n": 1}\n'


def test_lines_go_on_in_an_existing_file_unless_a_new_one_is_begun(tmp_path: Path) -> None:
    for value, is_new in ((1, False), (2, False), (3, True)):
        lines = JsonLines(tmp_path / "lines", is_new=is_new)
        lines.add({"n": value})
        lines.close()
        lines.close()
        expected = '{"n": 3}\n' if is_new else '{"n": 1}\n{"n": 2}\n'[: 9 * value]
        assert (tmp_path / "lines").read_text() == expected


def test_what_was_lost_is_remembered_and_later_lines_are_tried(tmp_path: Path) -> None:
    with Recorder(tmp_path, TASK, [np.zeros((8, 8, 3), np.uint8)]) as recorder:
        good, recorder._events = recorder._events, Full()  # type: ignore[assignment]
        recorder.note(Event("hold", "one"))
        recorder._events = good
        recorder.note(Event("hold", "two"))
        assert recorder.lost == 1
        assert "no room" in str(recorder.problem)
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "two"


class Full:
    def add(self, values: Any) -> None:
        raise OSError(28, "no room")

    def close(self) -> None:
        pass
