"""The command line as a person uses it: in a process of its own, with Ctrl+C."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot_client import cli
from robot_client.arms.franky_arm import FrankyArm, FrankySettings
from robot_client.commands import equipment
from robot_client.protocol import Observe
from trajectories.dataset import open_dataset
from trajectories.droid_raw import JOURNAL_FILE

REPOSITORY = Path(__file__).parents[2]
REACH = REPOSITORY / "configs" / "tasks" / "reach.yaml"


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    path = tmp_path / "goal.png"
    cv2.imwrite(str(path), np.full((32, 32, 3), 90, np.uint8))
    return path


@pytest.fixture
def short_task(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text("name: short\ndescription: d\nsub_goals: [{name: a, max_steps: 3}]\n")
    return path


def command(stand_in: Any, task: Path, goal: Path, runs: Path, *more: str) -> list[str]:
    where = ["--server", stand_in.endpoint, "--http", stand_in.url, "--runs", str(runs)]
    return ["run", "--task", str(task), "--goal", str(goal), *where, *more]


def the_only_run(runs: Path) -> Path:
    (folder,) = runs.iterdir()
    return folder


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robot_client", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_a_run_with_the_dummy_arm_leaves_a_complete_folder(
    stand_in: Any, short_task: Path, goal: Path, tmp_path: Path, capsys: Any
) -> None:
    runs = tmp_path / "runs"
    arguments = command(stand_in, short_task, goal, runs, "--arm", "dummy")
    assert cli.main(arguments) == cli.DONE
    folder = the_only_run(runs)
    names = {path.name for path in folder.iterdir() if not path.name.startswith("metadata_")}
    assert names == {
        *("config.json", "end.png", "energy.png", "episode.jsonl", "events.jsonl", "goal-0.png"),
        *("index.html", "recordings", "start.png", "summary.json", "task.json", "trajectory.h5"),
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["end"] == {
        "is_complete": True,
        "reason": "every sub-goal had its turn",
        "steps": 3,
        "missed": 0,
        "is_dry_run": False,
        "is_success": None,
        "retries": 0,
    }
    output = capsys.readouterr().out
    assert "a 3/3" in output
    assert "for you to judge" in output
    assert stand_in.goals == [goal.read_bytes()]


@pytest.mark.parametrize("value", ["0", "-0.1", "100.5", "nan", "inf", "fast"])
@pytest.mark.parametrize(
    "cap", ["--max-speed", "--dynamics-factor", "--contact-force", "--contact-torque"]
)
def test_a_cap_that_is_none_is_refused(cap: str, value: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--task", str(REACH), "--arm", "franky", cap, value])
    assert cap in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--task", "none.yaml", "--arm", "dummy"], "none.yaml"),
        (["--task", str(REACH), "--arm", "dummy"], "1 sub-goals"),
        (["--task", str(REACH), "--arm", "dummy", "--goal", "none.png"], "none.png"),
        (["--task", str(REACH), "--arm", "dummy", "--goal", str(REACH)], "invalid_frame"),
        (["--task", str(REACH), "--arm", "franky", "--goal", "GOAL"], "--host"),
        (["--task", str(REACH), "--arm", "dummy", "--goal", "GOAL", "--http", "x"], "looks like"),
        (
            [
                "--task",
                str(REACH),
                "--arm",
                "dummy",
                "--goal",
                "GOAL",
                "--http",
                "http://127.0.0.1:9",
            ],
            "uvicorn planner_server",
        ),
        (
            ["--task", str(REACH), "--arm", "sim", "--host", "127.0.41.99", "--goal", "GOAL"],
            "no arm answers",
        ),
        *(
            (
                ["--task", str(REACH), "--arm", "sim", "--host", host, "--goal", "GOAL"],
                "--arm franky",
            )
            for host in ("172.16.0.2", "robot.local", "auto", "0.0.0.0", "::ffff:172.16.0.2")
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], named: str, goal: Path, tmp_path: Path, capsys: Any
) -> None:
    arguments = [str(goal) if word == "GOAL" else word for word in arguments]
    assert cli.main(["run", *arguments, "--runs", str(tmp_path / "runs")]) == cli.FAILED
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert named in error
    assert "Traceback" not in error


def test_a_server_without_its_robots_door_is_told_within_seconds(
    stand_in: Any, short_task: Path, goal: Path, tmp_path: Path, capsys: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runs = tmp_path / "runs"
    arguments = command(stand_in, short_task, goal, runs, "--arm", "dummy")
    arguments += ["--server", f"tcp://127.0.0.1:{port}"]
    started = time.monotonic()
    assert cli.main(arguments) == cli.FAILED
    assert time.monotonic() - started < 15.0
    assert "nobody listens there" in capsys.readouterr().err
    summary = json.loads((the_only_run(runs) / "summary.json").read_text())
    assert summary["headline"].startswith("STOPPED")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_a_run_at_once_even_while_it_waits(
    stand_in: Any, short_task: Path, goal: Path, tmp_path: Path, number: signal.Signals
) -> None:
    stand_in.on_observe = lambda observe, send: None
    runs = tmp_path / "runs"
    process = start(command(stand_in, short_task, goal, runs, "--arm", "dummy"))
    wait_until(lambda: stand_in.observed)
    started = time.monotonic()
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert "the arm has been stopped" in error
    assert time.monotonic() - started < 30.0  # mostly drawing the report
    summary = json.loads((the_only_run(runs) / "summary.json").read_text())
    assert "interrupted" in summary["headline"]
    assert "STOPPED" in output


def test_ctrl_c_stops_a_moving_franka_short_of_its_target(
    stand_in: Any, robot_host: str, short_task: Path, goal: Path, tmp_path: Path
) -> None:
    asked: list[Observe] = []

    def far(observe: Observe, send: Callable[[bytes], None]) -> None:
        asked.append(observe)
        send(stand_in.act(observe).encode())

    stand_in.on_observe = far
    stand_in.step = np.array([0, 0.15, 0, 0, 0, 0, 0], np.float64)
    stand_in.control_period_s = 10.0  # slow enough to be caught in the middle
    arguments = command(stand_in, short_task, goal, tmp_path / "runs", "--arm", "sim")
    arguments += ["--host", robot_host, "--camera", "testcard"]
    process = start(arguments)
    runs = tmp_path / "runs"
    wait_until(lambda: asked and y_of_the_last_row(runs) - asked[0].state[1] > 0.02, 90.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    arm = FrankyArm(robot_host, FrankySettings(needs_realtime=False))
    arm.connect()
    wait_until(lambda: is_at_rest(arm))
    moved_m = arm.state().pose[1] - asked[0].state[1]
    arm.disconnect()
    assert 0.005 < moved_m < 0.14  # an arm that nobody stops comes to rest at 0.15


def is_at_rest(arm: FrankyArm) -> bool:
    before = arm.state().pose[1]
    time.sleep(0.5)
    return bool(abs(arm.state().pose[1] - before) < 1e-3)


def y_of_the_last_row(runs: Path) -> float:
    """Where the flange was when the film's newest whole row was written."""
    for journal in runs.glob(f"*/{JOURNAL_FILE}"):
        rows = [line for line in journal.read_text().splitlines(keepends=True) if '"state"' in line]
        if rows and rows[-1].endswith("\n"):
            return float(json.loads(rows[-1])["state"][1])
    return -1.0


def wait_until(is_so: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_can_be_appended_to_a_lerobot_data_set(
    stand_in: Any, short_task: Path, goal: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    root = tmp_path / "lerobot"
    for index in range(2):
        arguments = command(
            stand_in, short_task, goal, tmp_path / f"runs-{index}", "--arm", "dummy"
        )
        assert cli.main([*arguments, "--lerobot", str(root)]) == cli.DONE
    dataset = open_dataset(root)
    assert len(dataset) == 2
    with dataset.open(1) as episode:
        assert len(episode) >= 2
        assert np.isfinite(episode.states).all()


def test_the_recording_names_the_model_by_its_hash(
    stand_in: Any, short_task: Path, goal: Path, tmp_path: Path
) -> None:
    stand_in.card = {"name": "none", "sha256": "0123abcd"}
    runs = tmp_path / "runs"
    arguments = command(stand_in, short_task, goal, runs, "--arm", "dummy", "--unattended")
    assert cli.main(arguments) == cli.DONE
    folder = the_only_run(runs)
    assert json.loads((folder / "summary.json").read_text())["model_sha256"] == "0123abcd"
    (metadata,) = folder.glob("metadata_*.json")
    assert json.loads(metadata.read_text())["model_sha256"] == "0123abcd"


def test_a_run_that_was_cut_off_goes_on_with_the_sub_goal_that_was_under_way(
    stand_in: Any, goal: Path, tmp_path: Path
) -> None:
    task = tmp_path / "two.yaml"
    task.write_text(
        "name: two\ndescription: d\nsettled_step_m: 0.0\n"
        "sub_goals: [{name: a, max_steps: 1}, {name: b, max_steps: 50}]\n"
    )
    goals = ["--goal", str(goal)]  # beside the first one, which `command` names
    runs = tmp_path / "runs"
    process = start(command(stand_in, task, goal, runs, *goals, "--arm", "dummy", "--unattended"))
    deadline = time.monotonic() + 60.0
    while sum(seen.goal_index == 1 for seen in stand_in.observed) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()  # as a power cut would
    process.communicate()
    broken = the_only_run(runs)
    seen_before = len(stand_in.observed)
    task.write_text(task.read_text().replace("max_steps: 50", "max_steps: 2"))
    again = command(stand_in, task, goal, tmp_path / "again", *goals, "--arm", "dummy")
    assert cli.main([*again, "--unattended", "--resume", str(broken)]) == cli.DONE
    assert len(stand_in.goals) == 1  # of what is left
    assert len(stand_in.observed) - seen_before == 2
    with open_dataset(broken).open(0) as episode:  # the broken one was made whole on the way
        assert len(episode) >= 1


def test_the_real_arm_takes_the_same_command_and_moves_only_where_that_is_asked_for(
    stand_in: Any, goal: Path, tmp_path: Path
) -> None:
    def body(*arm: str) -> tuple[Any, bool]:
        arguments = command(stand_in, REACH, goal, tmp_path / "runs", *arm)
        options = cli._parser().parse_args(arguments)
        with ExitStack() as stack:
            robot = equipment.robot_of(options, stack, tmp_path, "reach")
        return robot.arm, robot.is_moving_allowed

    host = ("--host", "127.0.41.99", "--camera", "testcard")
    simulated, may_move = body("--arm", "sim", *host)
    assert may_move
    real, may_look = body("--arm", "franky", *host)
    assert not may_look
    same, may_move = body("--arm", "franky", *host, "--arm-motion")
    assert may_move
    assert type(simulated) is type(real) is type(same) is FrankyArm
    assert real._settings.needs_realtime
    assert not simulated._settings.needs_realtime
