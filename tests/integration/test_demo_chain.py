"""Server, simulated Franka and client as three processes: goal image in, moving arm out."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robot_client import cli
from robot_client.demo import DemoOptions, run_demo
from robot_client.errors import RunError
from robot_client.report import read_episode
from robot_client.tasks import SubGoal, Task, load_task

REPOSITORY = Path(__file__).parents[2]
TASKS = REPOSITORY / "configs" / "tasks"


def options(tmp_path: Path, model: Path | None, task: Task) -> DemoOptions:
    return DemoOptions(task, 1, "near", None, model, tmp_path / "runs")


def short_reach(steps: int) -> Task:
    reach = load_task(TASKS / "reach.yaml")
    return reach.model_copy(update={"sub_goals": (SubGoal(name="reach", max_steps=steps),)})


def processes_started_by(folder: Path) -> list[str]:
    """Command lines of living processes whose output goes to logs in `folder`."""
    living = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in str((directory / "fd" / "1").readlink()):
                living.append((directory / "cmdline").read_text())
        except OSError:
            continue
    return living


def test_frames_become_plans_and_plans_become_motion(tmp_path: Path, tiny_model: Path) -> None:
    outcome = run_demo(options(tmp_path, tiny_model, short_reach(3)))
    assert outcome.end.is_complete
    assert outcome.truth is not None
    assert outcome.headline.startswith("SUCCESS" if outcome.truth.is_success else "NOT ACHIEVED")
    lines = [line for line in read_episode(outcome.folder) if "energy" in line]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["energy_now"] > 0 for line in lines)
    for line, after in itertools.pairwise(lines):
        if line["is_executed"]:
            # What libfranka reports afterwards is where safety let the plan go.
            np.testing.assert_allclose(after["state"][:3], line["target"][:3], atol=5e-3)
    for name in (
        "recordings/MP4/left.mp4",
        "trajectory.h5",
        "index.html",
        "energy.png",
        "start.png",
        "end.png",
        "goal-0.png",
    ):
        assert (outcome.folder / name).stat().st_size > 1000
    assert processes_started_by(outcome.folder) == []


def test_a_simulator_that_cannot_start_is_told_and_nothing_is_left_running(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(RunError, match="the simulator ended with status"):
        run_demo(options(tmp_path, tiny_model, short_reach(1)))
    assert processes_started_by(tmp_path) == []


def test_a_model_that_is_not_there_is_told_and_nothing_is_left_running(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the planner server ended with status"):
        run_demo(options(tmp_path, tmp_path / "no-model", short_reach(1)))
    assert processes_started_by(tmp_path) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_and_both_its_programs(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["demo", "--model", str(tiny_model), "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "robot_client", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    while "reach 1/" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == cli.INTERRUPTED
    assert "the arm has been stopped" in error
    assert processes_started_by(tmp_path) == []
    (folder,) = (tmp_path / "runs").iterdir()
    assert "interrupted" in json.loads((folder / "summary.json").read_text())["headline"]


@pytest.mark.slow
def test_the_shipped_model_comes_nearer_to_a_reach_goal(
    tmp_path: Path, shipped_model: Path
) -> None:
    started = time.monotonic()
    outcome = run_demo(options(tmp_path, shipped_model, load_task(TASKS / "reach.yaml")))
    assert outcome.truth is not None
    lines = read_episode(outcome.folder)
    first_m = lines[0]["simulator_truth"]["distance_m"]
    assert outcome.truth.distance_m < 0.06
    assert outcome.truth.distance_m < first_m or first_m < 0.04
    assert time.monotonic() - started < 120
