"""How fast the robot's side is, and how soon the arm stands when something ends.

`python -m benchmarks.client` measures, each against its target:
the loop's own overhead per pass (a server that answers at once, no motion), the way from frame to
command by stage (the shipped model), Ctrl+C to a standing arm (simulated Franka, read from the
physics), the loss of the server to the hold, and an operator's order to stop everything until the
robot reports an arm that stands (the real server, while the arm moves and while it waits for a plan).
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.hardware import hardware
from benchmarks.served import serving
from benchmarks.standing import SHIPPED, Row, instant, interrupt_to_standing, order_to_standing
from robot_client.arms.dummy import DummyArm
from robot_client.cameras.testcard import TestCard
from robot_client.codec import encode_image
from robot_client.loop import ControlLoop
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.recorder import Recorder
from robot_client.records import StepRecord
from robot_client.rest import RestClient, SessionOptions
from robot_client.safety import SafetyLimits
from robot_client.server_link import ServerLink
from robot_client.tasks import SubGoal, Task

RESULTS = Path("benchmarks/results")
_PERIOD_S = 0.2


def _task(steps: int, **changes: Any) -> Task:
    return Task(
        name="bench",
        description="To and fro.",
        sub_goals=(SubGoal(name="move", max_steps=steps),),
        settled_step_m=0.0,
        safety=SafetyLimits(max_speed_m_s=2.0),
        **changes,
    )


def _link(endpoint: str, url: str) -> ServerLink:
    goal = encode_image(TestCard().newest(1.0).frame[:, ::-1].copy(), "png").data
    client = PlannerClient(ServerAddress(endpoint))
    return ServerLink(client, RestClient(url), SessionOptions(), [goal])


def loop_overhead(steps: int) -> list[Row]:
    """Passes of the real loop with recorder, an arm and a camera that need no time, and no model."""
    records: list[StepRecord] = []
    starts: list[float] = []
    task = _task(steps + 1)
    with (
        instant(_PERIOD_S, 0.02) as (_, endpoint, url),
        tempfile.TemporaryDirectory() as folder,
        Recorder(Path(folder), task, [TestCard().newest(1.0).frame]) as recorder,
        closing(_link(endpoint, url)) as link,
    ):
        link.open()

        def note(record: StepRecord) -> None:
            recorder.add(record)
            records.append(record)
            starts.append(time.monotonic())

        ControlLoop(DummyArm(), TestCard(), link, task, True, note).run()  # noqa: FBT003
    passes = [1e3 * (after - before - _PERIOD_S) for before, after in itertools.pairwise(starts)]
    rows = [Row("loop overhead per pass", tuple(passes), "p50 5, p99 15")]
    for stage in ("look", "ask", "filter", "command"):
        times = tuple(record.timings_ms[stage] for record in records if stage in record.timings_ms)
        rows.append(Row(f"  of it: {stage}", times))
    return rows


def frame_to_command(steps: int) -> list[Row]:
    """The way of one frame to the command, with the shipped model, by stage."""
    records: list[StepRecord] = []
    with serving(SHIPPED) as server, closing(_link(server.endpoint, server.url)) as link:
        link.open()
        task = _task(steps)
        ControlLoop(DummyArm(), TestCard(), link, task, True, records.append).run()  # noqa: FBT003
    whole: list[float] = []
    names = ("encode", "plan", "queue", "wire", "client")
    stages: dict[str, list[float]] = {name: [] for name in names}
    for record in records:
        act, times = record.act, record.timings_ms
        if act is None or record.latency_ms is None or "command" not in times:
            continue
        stages["encode"].append(act.encode_ms)
        stages["plan"].append(act.plan_ms)
        stages["queue"].append(act.queue_ms)
        stages["wire"].append(times["ask"] - act.encode_ms - act.plan_ms - act.queue_ms)
        stages["client"].append(times["filter"] + times["command"])
        whole.append(record.latency_ms + times["filter"] + times["command"])
    rows = [Row("frame to command", tuple(whole))]
    return rows + [Row(f"  of it: {name}", tuple(times)) for name, times in stages.items()]


class HeldArm(DummyArm):
    """Notes when it is told to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: list[float] = []

    def hold(self) -> None:
        """Note the time."""
        self.holds.append(time.monotonic())
        super().hold()


def loss_to_hold(repetitions: int) -> list[Row]:
    """SIGKILL of the server, at any moment of the period, until the arm is told to hold."""
    moments = np.random.default_rng(0).uniform(1.0, 1.0 + _PERIOD_S, repetitions)
    samples = tuple(_lose(float(moment)) for moment in moments)
    return [Row("server lost to hold", samples, f"max {1e3 * _PERIOD_S + 100:.0f}")]


def _lose(after_s: float) -> float:
    arm, killed = HeldArm(), list[float]()
    task = _task(500, stop_after_missed=2)
    with (
        instant(_PERIOD_S, 0.02) as (process, endpoint, url),
        closing(_link(endpoint, url)) as link,
    ):
        link.open()

        def kill() -> None:
            killed.append(time.monotonic())
            process.kill()

        timer = threading.Timer(after_s, kill)
        timer.start()
        ControlLoop(arm, TestCard(), link, task, True, lambda _: None).run()  # noqa: FBT003
        timer.join()
    return 1e3 * (min(when for when in arm.holds if when > killed[0]) - killed[0])


def print_table(rows: list[Row]) -> None:
    """Print one line per row."""
    table = Table(title="the robot's side [ms]")
    for name in ("what", "n", "p50", "p90", "p99", "max", "target"):
        table.add_column(name, justify="left" if name == "what" else "right", no_wrap=True)
    for row in rows:
        values = (f"{row.at(percent):.1f}" for percent in (50, 90, 99, 100))
        table.add_row(row.name, str(len(row.samples)), *values, row.target)
    Console(width=110).print(table)


def main() -> int:
    """Measure, print, write `benchmarks/results/client.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="passes of the loop (%(default)s)")
    parser.add_argument("--plans", type=int, default=20, help="real plans (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=10, help="of each stop (%(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "client.json")
    options = parser.parse_args()
    rows = loop_overhead(options.steps)
    rows += frame_to_command(options.plans)
    rows += interrupt_to_standing(options.repetitions)
    rows += loss_to_hold(options.repetitions)
    rows += order_to_standing(options.repetitions)
    print_table(rows)
    document = {
        "command": " ".join(["python -m benchmarks.client", *sys.argv[1:]]),
        "hardware": hardware(),
        "python": platform.python_version(),
        "rows": [
            {"name": row.name, "target": row.target, "samples_ms": row.samples} for row in rows
        ],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
