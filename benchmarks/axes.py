"""What turning the camera does to reaching, and what `robot-client calibrate-axes` mends of it.

`python -m benchmarks.axes` turns the simulated camera about the table by -45 to 45 degrees. For each
angle it explores with small moves, fits the correction from what the planner infers from them, and
lets the shipped model reach for goal images with and without it. The judge is the physics.

An experiment that was broken off goes on where it was: its episodes lie beside the results until it ends.
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
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.hardware import hardware
from planner_server.policy import PlannerPolicy, served
from robot_client.axes import Axes, fit_axes
from robot_client.calibration import directions
from simulation.evaluation.episode import run_episode
from simulation.evaluation.policy import Policy
from simulation.stepper import WORKSPACE, OfflineWorkcell
from simulation.tasks import FAR_M, Task, make_task
from trajectories.json_lines import JsonLines
from trajectories.poses import POSITION

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

RESULTS = Path("benchmarks/results")
PICTURE = Path("docs/images/axes.png")
FIRST_SEED = 910_000  # never used for data
ANGLES_DEG = (-45, -30, -15, 0, 15, 30, 45)
_STEP_M = 0.06
_MIDDLE = np.array([0.5, 0.0, 0.33])
_STEPS = 12


@dataclass(frozen=True)
class Job:
    """One episode: camera angle, workcell, kind of fit, and the hash of the model."""

    angle_deg: float
    seed: int
    full: bool
    model_sha256: str


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
    full: bool
    model_sha256: str

    @property
    def job(self) -> Job:
        """What it is the outcome of."""
        return Job(self.angle_deg, self.seed, self.full, self.model_sha256)


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
def _policy() -> PlannerPolicy:
    torch.set_num_threads(1)
    return served()


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


def run(job: Job) -> Outcome:
    """One angle and seed, in a process of its own."""
    task = make_task("reach", job.seed, FAR_M, camera_yaw_rad=math.radians(job.angle_deg))
    goal = dataclasses.replace(task.sub_goals[0], step_budget=_STEPS)
    task = dataclasses.replace(task, sub_goals=(goal,))
    axes = calibrate(task, full=job.full)
    before = run_episode(task, _policy())
    after = run_episode(task, TurnedPolicy(_policy(), axes))
    return Outcome(
        angle_deg=job.angle_deg,
        seed=job.seed,
        fitted_deg=math.degrees(axes.angle_rad),
        fitted_std_deg=math.degrees(axes.angle_std_rad),
        inferred_error_m=axes.error_before_m,
        corrected_error_m=axes.error_after_m,
        start_m=before.start_distance_m,
        before_m=before.final_distance_m,
        after_m=after.final_distance_m,
        full=job.full,
        model_sha256=job.model_sha256,
    )


class Episodes:
    """The outcomes of an experiment so far, on disk as soon as they are there.

    Args:
        path: A file of JSON lines, from an experiment that was broken off, or none.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        found = [Outcome(**json.loads(line)) for line in lines]
        self._found = {outcome.job: outcome for outcome in found}
        self._path, self._lines = path, JsonLines(path)

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of `jobs` that are still to be done."""
        return [job for job in jobs if job not in self._found]

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._found[outcome.job] = outcome
        self._lines.add(dataclasses.asdict(outcome))

    def of(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of `jobs`, in their order."""
        return [self._found[job] for job in jobs]

    def close(self, *, is_over: bool) -> None:
        """Close the file; once the experiment is over it is not needed any more."""
        self._lines.close()
        if is_over:
            self._path.unlink()


def median_of(outcomes: Sequence[Outcome], angle_deg: float, name: str) -> float:
    """Median of one number over the episodes with one angle."""
    mine = [getattr(each, name) for each in outcomes if each.angle_deg == angle_deg]
    return float(np.median(mine))


def angles_of(outcomes: Sequence[Outcome]) -> list[float]:
    """The angles, in order [degrees]."""
    return sorted({outcome.angle_deg for outcome in outcomes})


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print one line per angle; medians over the seeds."""
    table = Table(title="reach error with the camera turned about the table (medians)")
    names = ("camera", "n", "fitted turn", "start", "without", "with", "move error", "corrected")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for angle in angles_of(outcomes):

        def cm(name: str, angle: float = angle) -> str:
            return f"{100 * median_of(outcomes, angle, name):.1f} cm"

        turn_deg = median_of(outcomes, angle, "fitted_deg")
        spread_deg = median_of(outcomes, angle, "fitted_std_deg")
        table.add_row(
            f"{angle:+.0f} deg",
            str(sum(outcome.angle_deg == angle for outcome in outcomes)),
            f"{turn_deg:+.0f} +- {spread_deg:.0f} deg",
            *map(cm, ("start_m", "before_m", "after_m", "inferred_error_m", "corrected_error_m")),
        )
    Console(width=120).print(table)


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw the error over the camera's angle, every episode a dot and the medians a line."""
    grey = "#888888"  # readable on white and on black
    figure = Figure(figsize=(7, 3.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    angles = angles_of(outcomes)
    for name, label, colour, shift in (
        ("before_m", "without calibrate-axes", "#d9822b", -1.0),
        ("after_m", "with", "#2a7fd4", 1.0),
    ):
        places = [each.angle_deg + shift for each in outcomes]
        errors_cm = [100 * getattr(each, name) for each in outcomes]
        axes.scatter(places, errors_cm, s=9, color=colour, alpha=0.4, linewidths=0)
        medians = [100 * median_of(outcomes, angle, name) for angle in angles]
        axes.plot(angles, medians, "o-", color=colour, label=label)
    axes.set_xlabel("camera turned about the table [degrees]", color=grey)
    axes.set_ylabel("distance left to the goal [cm]", color=grey)
    axes.set_xticks(angles)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=grey)
    axes.spines[:].set_color(grey)
    axes.legend(labelcolor=grey, framealpha=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True)


def do(jobs: Sequence[Job], episodes: Episodes, workers: int) -> None:
    """Do `jobs` in processes beside each other, keeping each outcome as it comes."""
    if not jobs:
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        done = pool.imap_unordered(run, jobs)
        for outcome in track(done, total=len(jobs), description="episodes", console=Console()):
            episodes.add(outcome)


def main() -> int:
    """Run the experiment; write `benchmarks/results/axes.json` and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.axes", description=__doc__)
    add = parser.add_argument
    add("--angles", type=float, nargs="+", default=list(ANGLES_DEG), help="degrees (%(default)s)")
    add("--seeds", type=int, default=6, help="workcells per angle (%(default)s)")
    add("--full", action="store_true", help="fit a 3 x 3 matrix, not a turn")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    add("--output", type=Path, default=RESULTS / "axes.json", help="%(default)s")
    add("--picture", type=Path, default=PICTURE, help="%(default)s")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the workers: one core each
    started = time.monotonic()
    sha256 = str(_policy().description["sha256"])
    seeds = [FIRST_SEED + index for index in range(options.seeds)]
    jobs = [Job(angle, seed, options.full, sha256) for angle in options.angles for seed in seeds]
    episodes, is_over = Episodes(options.output.with_suffix(".unfinished.jsonl")), False
    try:
        do(episodes.missing(jobs), episodes, options.workers)
        outcomes, is_over = episodes.of(jobs), True
    finally:
        episodes.close(is_over=is_over)
    print_table(outcomes)
    draw(outcomes, options.picture)
    document = {
        "command": " ".join(["python -m benchmarks.axes", *sys.argv[1:]]),
        "hardware": hardware(),
        "workspace": dataclasses.asdict(WORKSPACE),
        "steps": _STEPS,
        "move_m": _STEP_M,
        "elapsed_s": round(time.monotonic() - started),
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {options.output}, {options.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
