"""Every fault with real processes: client, server, network, camera and a simulated Franka.

Whatever fails, the arm holds or stops, nothing moves on stale data, and the episode stays readable.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot_client import cli
from robot_client.arms.sim import SimulatorAddress, SimulatorOptions, SimulatorProcess
from robot_client.report import read_episode
from robot_client.rest import RestClient
from robot_client.server_process import ServerProcess
from robot_client.supervisor import Supervisor
from trajectories.dataset import open_episode

pytest.importorskip("franky_sim")

REPOSITORY = Path(__file__).parents[2]
STILL_M = 2e-3


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorAddress]:
    """One simulated Franka for all tests of this module."""
    folder = tmp_path_factory.mktemp("simulator")
    with SimulatorProcess(SimulatorOptions("reach", 3), folder) as simulator:
        yield simulator.wait()


@contextmanager
def program(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A helper process and its ready line."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.{module}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


class Run:
    """One `robot-client run` in a process of its own."""

    def __init__(
        self,
        cell: SimulatorAddress,
        tmp_path: Path,
        where: str,
        steps: int,
        *more: str,
        patience: int = 4,
    ) -> None:
        endpoint, url = where.split()
        task, goal = tmp_path / "task.yaml", tmp_path / "goal.png"
        task.write_text(
            "name: endless\ndescription: to and fro\nsettled_step_m: 0.0\n"
            f"stop_after_missed: {patience}\nsub_goals: [{{name: a, max_steps: {steps}}}]\n"
        )
        cv2.imwrite(str(goal), np.full((64, 64, 3), 90, np.uint8))
        self.runs = tmp_path / "runs"
        arguments = ["run", "--task", str(task), "--goal", str(goal), "--unattended"]
        arguments += ["--arm", "sim", "--host", cell.robot, "--runs", str(self.runs)]
        arguments += ["--server", endpoint, "--http", url]
        if "--camera" not in more:
            arguments += ["--camera", cell.camera]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "robot_client", *arguments, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    @property
    def folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder

    def lines(self) -> list[dict[str, Any]]:
        """Passes recorded so far."""
        if not self.runs.is_dir() or not list(self.runs.glob("*/episode.jsonl")):
            return []
        return read_episode(self.folder)

    def wait(self) -> tuple[int, str]:
        """Exit status and everything that was said."""
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output + errors

    def check_readable(self) -> None:
        """The run's folder is a whole episode with a summary, whatever happened."""
        assert json.loads((self.folder / "summary.json").read_text())["headline"]
        with open_episode(self.folder) as episode:
            assert len(episode) >= 2
            assert len(episode.camera("left")) == len(episode)
            assert np.isfinite(episode.states).all()


def wait_until(is_so: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def supervisor_of(cell: SimulatorAddress) -> Iterator[Supervisor]:
    supervisor = Supervisor(cell.supervisor)
    yield supervisor
    supervisor.close()


def flange(supervisor: Supervisor) -> np.ndarray:
    return np.array(supervisor.ask("truth")["state"][:3])


def check_still(cell: SimulatorAddress) -> None:
    """The arm does not move any more."""
    with supervisor_of(cell) as supervisor:
        before = flange(supervisor)
        time.sleep(0.7)
        assert np.linalg.norm(flange(supervisor) - before) < STILL_M


def test_a_server_that_is_killed_leaves_a_still_arm_and_a_whole_episode(
    cell: SimulatorAddress, tmp_path: Path
) -> None:
    with program("scripted_server") as (server, where):
        run = Run(cell, tmp_path, where, 500)
        wait_until(lambda: sum(line["is_executed"] for line in run.lines()) >= 2)
        server.kill()
        killed = sum(line["is_executed"] for line in run.lines())
        status, said = run.wait()
    assert status == cli.NOT_ACHIEVED, said
    assert "without a usable plan" in said
    assert sum(line["is_executed"] for line in run.lines()) <= killed + 1
    check_still(cell)
    run.check_readable()


def test_a_server_that_restarts_is_found_again_and_the_task_ends(
    cell: SimulatorAddress, tmp_path: Path
) -> None:
    with program("scripted_server") as (server, where):
        run = Run(cell, tmp_path, where, 6, patience=60)
        wait_until(lambda: sum(line["is_executed"] for line in run.lines()) >= 2)
        server.kill()
        server.wait(10)
        zmq_port, http_port = (address.rsplit(":", 1)[1] for address in where.split())
        with program("scripted_server", "--zmq", zmq_port, "--http", http_port):
            status, said = run.wait()
    assert status == cli.DONE, said
    assert sum(line["is_executed"] for line in run.lines()) == 6
    assert "RECONNECTED" in said
    run.check_readable()


@pytest.mark.parametrize(
    "fault",
    ["garbage", *(pytest.param(name, marks=pytest.mark.slow) for name in ("foreign", "outdated"))],
)
def test_answers_that_cannot_be_trusted_move_nothing(
    cell: SimulatorAddress, tmp_path: Path, fault: str
) -> None:
    with program("scripted_server", "--fault", fault) as (_, where), supervisor_of(cell) as truth:
        before = flange(truth)
        run = Run(cell, tmp_path, where, 500)
        status, said = run.wait()
        assert np.linalg.norm(flange(truth) - before) < STILL_M
    assert status == cli.NOT_ACHIEVED, said
    assert not any(line["is_executed"] for line in run.lines())
    run.check_readable()


@pytest.mark.slow
def test_answers_that_come_late_are_waited_for_with_the_arm_holding(
    cell: SimulatorAddress, tmp_path: Path
) -> None:
    with program("scripted_server", "--fault", "late") as (_, where):
        run = Run(cell, tmp_path, where, 2)
        status, said = run.wait()
    assert status == cli.DONE, said
    events = (run.folder / "events.jsonl").read_text()
    assert '"kind": "hold"' in events
    assert all(line["latency_ms"] > 500.0 for line in run.lines() if line["is_executed"])
    run.check_readable()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("freeze", "old"),
        pytest.param("die", "old", marks=pytest.mark.slow),
        pytest.param("black", "empty", marks=pytest.mark.slow),
        pytest.param("repeat", "frozen", marks=pytest.mark.slow),
    ],
)
def test_a_camera_that_fails_stops_the_run(
    cell: SimulatorAddress, tmp_path: Path, fault: str, reason: str
) -> None:
    with (
        program("scripted_server") as (_, where),
        program("scripted_camera", "--fault", fault, "--after-s", "6") as (_, camera),
    ):
        run = Run(cell, tmp_path, where, 500, "--camera", camera)
        status, said = run.wait()
    assert status == cli.NOT_ACHIEVED, said
    assert reason in said
    check_still(cell)
    run.check_readable()


@pytest.mark.slow
def test_over_a_network_that_loses_and_delays_nothing_stale_is_executed(
    cell: SimulatorAddress, tmp_path: Path
) -> None:
    with (
        program("scripted_server") as (_, where),
        program("lossy_proxy", where.split()[0]) as (_, bad),
    ):
        run = Run(cell, tmp_path, f"{bad} {where.split()[1]}", 12)
        status, said = run.wait()
    executed = [line for line in run.lines() if line["is_executed"]]
    seqs = [line["seq"] for line in executed]
    assert seqs == sorted(set(seqs))  # never twice, never backwards
    assert all(abs(line["raw_actions"][0][1]) == pytest.approx(0.03) for line in executed)
    assert status in (cli.DONE, cli.NOT_ACHIEVED), said
    assert executed
    check_still(cell)
    run.check_readable()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupt_stops_the_arm_in_the_middle_of_a_motion(
    cell: SimulatorAddress, tmp_path: Path, number: signal.Signals
) -> None:
    with program("scripted_server") as (_, where):
        run = Run(cell, tmp_path, where, 500)
        wait_until(lambda: sum(line["is_executed"] for line in run.lines()) >= 2)
        os.kill(run.process.pid, number)
        status, said = run.wait()
    assert status == cli.INTERRUPTED, said
    check_still(cell)
    run.check_readable()


def test_stopping_everything_at_the_server_is_answered_by_an_arm_that_stands(
    cell: SimulatorAddress, tmp_path: Path, tiny_model: Path
) -> None:
    with ServerProcess(tmp_path, tiny_model) as server, supervisor_of(cell) as truth:
        rest = RestClient(server.wait())
        run = Run(cell, tmp_path, f"{rest.model()['zmq_endpoint']} {server.wait()}", 500)
        wait_until(lambda: sum(line["is_executed"] for line in run.lines()) >= 1)
        before = flange(truth)
        wait_until(lambda: np.linalg.norm(flange(truth) - before) > STILL_M)
        (session,) = rest.stop_all("somebody is in the cell")["sessions"]
        assert session["is_connected"]
        status, said = run.wait()
    assert status == cli.NOT_ACHIEVED, said
    assert "somebody is in the cell" in said
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    reports = [event["arm"] for event in events if event["kind"] == "acknowledged"]
    assert reports[-1] == "standing"
    assert set(reports[:-1]) <= {"stopping"}
    check_still(cell)
    run.check_readable()
