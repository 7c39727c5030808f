"""How soon a simulated arm stands: after Ctrl+C, and after an order to stop everything."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.served import serving
from robot_client.arms.sim import SimulatorOptions, SimulatorProcess
from robot_client.cameras.testcard import TestCard
from robot_client.codec import encode_image
from robot_client.report import read_episode
from robot_client.supervisor import Supervisor

SHIPPED = Path("models/shipped")
_STANDING_M = 1e-3  # an arm within this of where it ends up stands


@dataclass(frozen=True)
class Row:
    """One line of the table; times in ms."""

    name: str
    samples: tuple[float, ...]
    target: str = ""

    def at(self, percent: float) -> float:
        """A percentile."""
        return float(np.percentile(self.samples, percent)) if self.samples else float("nan")


@contextmanager
def instant(period_s: float, step_m: float) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The model-less server in a process of its own: process, ZMQ and HTTP address."""
    command = [sys.executable, "-m", "benchmarks.instant_server"]
    process = subprocess.Popen(
        [*command, "--period", str(period_s), "--step", str(step_m)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        endpoint, url = process.stdout.readline().split()
        yield process, endpoint, url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def interrupt_to_standing(repetitions: int) -> list[Row]:
    """SIGINT in the middle of a motion until the simulated arm stands, from the physics' own time."""
    samples = []
    scene = SimulatorOptions("reach", 3)
    with (
        tempfile.TemporaryDirectory() as name,
        SimulatorProcess(scene, Path(name)) as simulator,
        instant(1.0, 0.1) as (_, endpoint, url),
    ):
        ready = simulator.wait()
        for index in range(repetitions):
            with closing(Supervisor(ready.supervisor)) as supervisor:
                runs = Path(name) / f"runs-{index}"
                samples.append(_interrupt(ready, (endpoint, url), supervisor, runs))
    return [Row("Ctrl+C to a standing arm", tuple(samples), "max 100")]


def _interrupt(ready: Any, where: tuple[str, str], supervisor: Supervisor, runs: Path) -> float:
    process = _start_run(ready, where, runs)
    try:
        _wait_for_motion(supervisor, runs)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        times, places = _follow(supervisor, until=sent + 1.5)
    finally:
        process.wait(60)
    away = np.linalg.norm(places - places[-1], axis=1) > _STANDING_M
    last = int(np.flatnonzero(away)[-1]) if away.any() else 0
    return 1e3 * max(0.0, float(times[last]) - sent)


def _start_run(ready: Any, where: tuple[str, str], runs: Path) -> subprocess.Popen[bytes]:
    goal, task = runs.with_suffix(".png"), runs.with_suffix(".yaml")
    goal.write_bytes(encode_image(TestCard().newest(1.0).frame, "png").data)
    task.write_text(
        "name: bench\ndescription: d\nsettled_step_m: 0.0\nstop_after_missed: 60\n"
        "sub_goals: [{name: a, max_steps: 99}]\n"
    )
    arguments = ["run", "--task", str(task), "--goal", str(goal), "--unattended", "--arm", "sim"]
    arguments += ["--host", ready.robot, "--camera", ready.camera, "--runs", str(runs)]
    arguments += ["--server", where[0], "--http", where[1]]
    return subprocess.Popen(
        [sys.executable, "-m", "robot_client", *arguments], stdout=subprocess.DEVNULL
    )


def order_to_standing(repetitions: int) -> list[Row]:
    """POST /v1/stop-all until the robot's word that its arm stands, as the server measures it."""
    heard: list[float] = []
    standing: list[float] = []
    moments = np.random.default_rng(0).uniform(0.0, 1.0, repetitions)
    with (
        tempfile.TemporaryDirectory() as name,
        SimulatorProcess(SimulatorOptions("reach", 3), Path(name)) as simulator,
        serving(SHIPPED) as server,
        closing(Supervisor(simulator.wait().supervisor)) as supervisor,
    ):
        for index, moment_s in enumerate(moments):
            runs = Path(name) / f"runs-{index}"
            process = _start_run(simulator.wait(), (server.endpoint, server.url), runs)
            try:
                _wait_for_motion(supervisor, runs)
                time.sleep(float(moment_s) if index % 2 else 0.0)
                told = server.rest.stop_all("measured")["sessions"]
            finally:
                process.wait(60)
            heard += [float(each["obeyed_ms"] or np.inf) for each in told]
            standing += [float(each["standing_ms"] or np.inf) for each in told]
    return [
        Row("stop order to its acknowledgement", tuple(heard)),
        Row("stop order to a standing arm, reported", tuple(standing), "max 250"),
    ]


def _wait_for_motion(supervisor: Supervisor, runs: Path) -> None:
    """Until the second step is under way, fast."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        episodes = list(runs.glob("*/episode.jsonl"))
        if episodes and sum(line["is_executed"] for line in read_episode(episodes[0].parent)):
            break
        time.sleep(0.02)
    before = np.array(supervisor.ask("truth")["state"][:3])
    while time.monotonic() < deadline:
        time.sleep(0.02)
        now = np.array(supervisor.ask("truth")["state"][:3])
        if np.linalg.norm(now - before) / 0.02 > 0.1:  # m/s
            return
        before = now


def _follow(supervisor: Supervisor, until: float) -> tuple[NDArray[Any], NDArray[Any]]:
    times, places = [], []
    while time.monotonic() < until:
        truth = supervisor.ask("truth")
        times.append(truth["t_monotonic_s"])
        places.append(truth["state"][:3])
    return np.array(times), np.array(places)
