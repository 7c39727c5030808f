"""What turning the camera does to reaching, and what `robot-client calibrate-axes` mends of it.

`python -m benchmarks.axes` turns the simulated camera about the table by -45 to 45 degrees. For each
angle it explores with small moves, fits the correction from what the planner infers from them, and
lets the shipped model reach for goal images with and without it. The judge is the physics.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.hardware import hardware
from benchmarks.policies import WorldModelPolicy
from models.checkpoint import load_world_model
from planner_server.planning import RolloutEngine, WorldModelDynamics, planners
from robot_client.axes import Axes, fit_axes
from robot_client.calibration import directions
from simulation.evaluation import Policy, run_episode
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.tasks import FAR_M, Task, make_task
from trajectories.poses import POSITION

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

SHIPPED = Path("models/shipped")
RESULTS = Path("benchmarks/results")
FIRST_SEED = 910_000  # never used for data
ANGLES_DEG = (-45, -30, -15, 0, 15, 30, 45)
_STEP_M = 0.06
_MIDDLE = np.array([0.5, 0.0, 0.33])
_STEPS = 12


@dataclass(frozen=True)
class Outcome:
    """One angle and seed: the fit, and the final distance to the goal [m] without and with it."""

    angle_deg: float
    seed: int
    fitted_deg: float
    fitted_std_deg: float
    inferred_error_m: float
    corrected_error_m: float
    start_m: float
    before_m: float
    after_m: float


class TurnedPolicy:
    """A policy whose displacements are turned by a correction."""

    def __init__(self, policy: Policy, axes: Axes) -> None:
        self._policy, self._axes = policy, axes

    def begin(self, goals: Sequence[Frame]) -> None:
        """Hand the goals on."""
        self._policy.begin(goals)

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Turn what the policy wants."""
        return self._axes.turn(self._policy.act(frame, state, goal_index))


@cache
def _engine() -> RolloutEngine:
    torch.set_num_threads(1)
    return RolloutEngine(WorldModelDynamics(load_world_model(SHIPPED), "bfloat16"))


def _policy() -> WorldModelPolicy:
    engine = _engine()
    planner = planners.make(planners.default, engine)
    return WorldModelPolicy(load_world_model(SHIPPED), planner, search_gripper=False)


def calibrate(task: Task, *, full: bool) -> Axes:
    """Explore the task's workcell as the command does, offline, and fit the correction."""
    cell = OfflineWorkcell(task.variation)
    commanded, inferred = [], []
    for way in directions(full=full):
        start = task.start.copy()
        start[POSITION] = _MIDDLE
        cell.reset(start)
        before, state = cell.render(), cell.state()
        action = np.zeros(7)
        action[POSITION] = _STEP_M * way
        cell.act(action)
        policy = _policy()
        policy.begin([cell.render()])
        inferred.append(policy.act(before, state, 0)[POSITION])
        commanded.append((cell.state() - state)[POSITION])
    return fit_axes(np.array(commanded), np.array(inferred), "simulated", full=full)


def run(job: tuple[float, int, bool]) -> Outcome:
    """One angle and seed, in a process of its own."""
    angle_deg, seed, full = job
    task = make_task("reach", seed, FAR_M, camera_yaw_rad=math.radians(angle_deg))
    goal = dataclasses.replace(task.sub_goals[0], step_budget=_STEPS)
    task = dataclasses.replace(task, sub_goals=(goal,))
    axes = calibrate(task, full=full)
    before = run_episode(task, _policy())
    after = run_episode(task, TurnedPolicy(_policy(), axes))
    return Outcome(
        angle_deg=angle_deg,
        seed=seed,
        fitted_deg=math.degrees(axes.angle_rad),
        fitted_std_deg=math.degrees(axes.angle_std_rad),
        inferred_error_m=axes.error_before_m,
        corrected_error_m=axes.error_after_m,
        start_m=before.start_distance_m,
        before_m=before.final_distance_m,
        after_m=after.final_distance_m,
    )


def print_table(outcomes: list[Outcome]) -> None:
    """Print one line per angle; medians over the seeds."""
    table = Table(title="reach error with the camera turned about the table (medians)")
    names = ("camera", "n", "fitted turn", "start", "without", "with", "move error", "corrected")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for angle in sorted({outcome.angle_deg for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if outcome.angle_deg == angle]

        def median(name: str, mine: list[Outcome] = mine) -> float:
            return float(np.median([getattr(outcome, name) for outcome in mine]))

        table.add_row(
            f"{angle:+.0f} deg",
            str(len(mine)),
            f"{median('fitted_deg'):+.0f} +- {median('fitted_std_deg'):.0f} deg",
            f"{100 * median('start_m'):.1f} cm",
            f"{100 * median('before_m'):.1f} cm",
            f"{100 * median('after_m'):.1f} cm",
            f"{100 * median('inferred_error_m'):.1f} cm",
            f"{100 * median('corrected_error_m'):.1f} cm",
        )
    Console(width=120).print(table)


def main() -> int:
    """Run the experiment and write `benchmarks/results/axes.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.axes", description=__doc__)
    parser.add_argument("--angles", type=float, nargs="+", default=list(ANGLES_DEG))
    parser.add_argument("--seeds", type=int, default=6, help="workcells per angle (%(default)s)")
    parser.add_argument("--full", action="store_true", help="fit a 3 x 3 matrix, not a turn")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--output", type=Path, default=RESULTS / "axes.json")
    options = parser.parse_args()
    seeds = [FIRST_SEED + index for index in range(options.seeds)]
    jobs = [(angle, seed, options.full) for angle in options.angles for seed in seeds]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        outcomes = list(track(pool.imap(run, jobs), total=len(jobs), description="episodes"))
    print_table(outcomes)
    document = {
        "command": " ".join(["python -m benchmarks.axes", *sys.argv[1:]]),
        "hardware": hardware(),
        "workspace": dataclasses.asdict(WORKSPACE),
        "elapsed_s": round(time.monotonic() - started),
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
