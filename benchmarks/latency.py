"""How long a robot waits: for a plan, for the wire, for its own loop, and how the service answers meanwhile.

`python -m benchmarks.latency` takes about two minutes on two cores. It measures the machine as it finds it: stop
what else runs there. Percentiles of few samples are near their largest one; the table says how many there are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zmq
from rich.console import Console
from rich.table import Table

from benchmarks import served
from benchmarks.hardware import hardware
from models.checkpoint import CONFIG_FILE
from planner_server import __version__
from planner_server.errors import StartupError
from planner_server.planning import (
    ActionBounds,
    Goal,
    PlanningProblem,
    RolloutEngine,
    WorldModelDynamics,
    planners,
)
from planner_server.served_model import ServedModel, load_served_model
from planner_server.settings import Settings
from robot_client.arms.dummy import START_POSE
from robot_client.cameras.testcard import TestCard
from robot_client.errors import RobotClientError

SHIPPED = Path("models/shipped")
RESULTS = Path("benchmarks/results")
PERCENTILES = (50, 90, 99)
PLANNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "surrogate (default)": ("surrogate", {}),
    "icem": ("icem", {}),
    "cem 100 x 10": ("cem", {"candidates": 100}),
    "cem 800 x 10 (as published)": ("cem", {}),
}
BASELINE = "plan, cem 800 x 10 (as published), float32"


@dataclass(frozen=True)
class Effort:
    """How often each thing is measured.

    Attributes:
        plans: Plans of each planner and precision, at most.
        plans_s: Time after which no further one is begun [s]; one is always made.
        pings: Pings, and probes of /healthz.
        observations: Observations of each frame encoding.
        steps: Passes of the control loop.
    """

    plans: int
    plans_s: float
    pings: int
    observations: int
    steps: int


FULL = Effort(plans=20, plans_s=6.0, pings=200, observations=12, steps=12)
QUICK = Effort(plans=2, plans_s=0.5, pings=20, observations=2, steps=2)


@dataclass(frozen=True)
class Row:
    """One line of the table: what was timed, and every single time [ms]."""

    name: str
    samples_ms: tuple[float, ...]

    def percentile_ms(self, percentile: float) -> float:
        """Return a percentile of the samples [ms]."""
        return float(np.percentile(self.samples_ms, percentile))


def time_planning(model: ServedModel, effort: Effort) -> Iterator[Row]:
    """Time encoder and planners in this process, in the precision that the server takes and in float32."""
    frame = TestCard().newest(1.0).frame
    context, goal = model.encode(np.stack([frame, frame[:, ::-1]]))
    problem = PlanningProblem(
        context_tokens=context,
        context_states=torch.from_numpy(START_POSE)[None],
        goal=Goal.of(goal),
        bounds=ActionBounds.symmetric(model.max_step),
    )
    yield Row("encode one frame", _repeat(lambda: model.encode(frame[None]), effort))
    for name, (registered, options) in PLANNERS.items():
        for precision in dict.fromkeys((model.precision, "float32")):
            engine = RolloutEngine(WorldModelDynamics(model.world_model, precision))
            planner = planners.make(registered, engine, planners.settings(registered, **options))
            planners.make("surrogate", engine).plan([problem])  # warms the model up
            samples_ms = _repeat(partial(planner.plan, [problem]), effort)
            yield Row(f"plan, {name}, {precision}", samples_ms)


def time_service(server: served.Served, effort: Effort) -> Iterator[Row]:
    """Time a running server and the control loop from outside."""
    yield Row("ZMQ ping to pong", served.time_pings(server, effort.pings))
    for encoding in ("raw", "jpeg"):
        whole, overhead = served.time_observations(server, encoding, effort.observations)
        yield Row(f"ZMQ observe to act, {encoding} 256 x 256", whole)
        yield Row("  of it neither encoding nor searching", overhead)
    for is_planning, when in ((False, "idle"), (True, "while planning")):
        samples_ms = served.time_health(server, effort.pings, is_planning=is_planning)
        yield Row(f"GET /healthz, {when}", samples_ms)
    whole, overhead = served.time_loop(server, effort.steps)
    yield Row("control loop, start to start", whole)
    yield Row("  of it beyond control period and plan", overhead)


def _repeat(action: Callable[[], object], effort: Effort) -> tuple[float, ...]:
    """Time an action [ms], at least once, until there are enough samples or the time is up."""
    samples_ms: list[float] = []
    begun = time.monotonic()
    while not samples_ms or (
        len(samples_ms) < effort.plans and time.monotonic() - begun < effort.plans_s
    ):
        started = time.monotonic()
        action()
        samples_ms.append(1e3 * (time.monotonic() - started))
    return tuple(samples_ms)


def describe(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what is written of each row; `times_faster` compares a planner's median with the baseline's."""
    baseline_ms = next(row.percentile_ms(50) for row in rows if row.name == BASELINE)
    return [
        {
            "name": row.name.strip(),
            "samples": len(row.samples_ms),
            **{f"p{percentile}_ms": row.percentile_ms(percentile) for percentile in PERCENTILES},
            "times_faster": baseline_ms / row.percentile_ms(50)
            if row.name.startswith("plan,")
            else None,
            "samples_ms": [round(sample_ms, 3) for sample_ms in row.samples_ms],
        }
        for row in rows
    ]


def print_table(rows: Sequence[Row], hardware: str) -> None:
    """Print one line per row."""
    table = Table(title=f"latency on {hardware}", caption="baseline: " + BASELINE)
    table.add_column("what", no_wrap=True)
    for name in ("n", *(f"p{percentile}" for percentile in PERCENTILES), "vs baseline"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, values in zip(rows, describe(rows), strict=True):
        times_faster = values["times_faster"]
        table.add_row(
            row.name,
            str(values["samples"]),
            *(_in_ms(values[f"p{percentile}_ms"]) for percentile in PERCENTILES),
            "" if times_faster is None else f"{times_faster:.1f} x faster",
        )
    Console(width=120).print(table)


def _in_ms(value_ms: float) -> str:
    return f"{value_ms:,.0f} ms" if abs(value_ms) >= 100 else f"{value_ms:.2f} ms"


def _measure(model: Path, effort: Effort) -> tuple[list[Row], dict[str, Any]]:
    """Return every row, and what the server says about the model it serves."""
    rows: list[Row] = []
    console = Console(stderr=True)
    for row in time_planning(load_served_model(Settings(model=model)), effort):
        rows.append(row)
        console.print(f"{row.name}: {_in_ms(row.percentile_ms(50))}")
    with served.serving(model) as server:
        card = server.card
        for row in time_service(server, effort):
            rows.append(row)
            console.print(f"{row.name}: {_in_ms(row.percentile_ms(50))}")
    return rows, card


def main() -> int:
    """Run the benchmark and write `benchmarks/results/latency.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="folder (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few samples of each, for tests")
    parser.add_argument("--output", type=Path, default=RESULTS / "latency.json")
    options = parser.parse_args()
    if not options.model.is_file() and not (options.model / CONFIG_FILE).is_file():
        remedy = "make the shipped one with `make demo-model`, or name another with --model"
        sys.stderr.write(f"error: there is no model in {options.model}; {remedy}\n")
        return 2
    started, load_before = time.monotonic(), os.getloadavg()[0]
    try:
        rows, card = _measure(options.model, QUICK if options.quick else FULL)
    except (StartupError, RobotClientError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print_table(rows, hardware())
    document = {
        "command": " ".join(["python -m benchmarks.latency", *sys.argv[1:]]),
        "hardware": hardware(),
        "load_before": load_before,
        "torch_threads": torch.get_num_threads(),
        "versions": {
            "vjepa-planner": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pyzmq": zmq.__version__,
        },
        "elapsed_s": round(time.monotonic() - started),
        "model": {"folder": str(options.model), **card},
        "baseline": BASELINE,
        "rows": describe(rows),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    if load_before > (os.cpu_count() or 1) / 4:
        print(
            f"the machine was busy before (load {load_before:.1f}): expect lower numbers on an idle one"
        )
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
