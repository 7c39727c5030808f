"""`robot-client demo`: a planner server, a simulated Franka and the client together."""

import argparse
from pathlib import Path

from robot_client.commands.run import add_manner, manner_of
from robot_client.demo import DemoOptions, run_demo
from robot_client.exits import DONE, NOT_ACHIEVED
from robot_client.run import Outcome
from robot_client.tasks import load_task

NAME = "demo"
HELP = "server, simulated Franka and client together"

TASKS = Path(__file__).parents[2] / "configs" / "tasks"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    add = parser.add_argument
    names = sorted(path.stem for path in TASKS.glob("*.yaml"))
    add("--task", choices=names, default="reach", help="default %(default)s")
    add("--seed", type=int, default=1, help="of workcell, start and goal (default %(default)s)")
    add("--distance", choices=("near", "far"), default="near", help="from start to goal")
    add("--planner", help="one of the server's planners; default: its own choice")
    add("--model", type=Path, help="folder of another world model than the shipped one")
    add("--runs", type=Path, default=Path("runs"), help="where runs are kept (%(default)s/)")
    add("--strict", action="store_true", help="exit with 1 when any task is not achieved")
    add_manner(parser)


def run(options: argparse.Namespace) -> int:
    """Run the demo; returns the exit status."""
    outcome = run_demo(
        DemoOptions(
            task=load_task(TASKS / f"{options.task}.yaml"),
            seed=options.seed,
            distance=options.distance,
            planner=options.planner,
            model=options.model,
            runs=options.runs,
            manner=manner_of(options),
        )
    )
    return status_of(outcome, is_strict=options.strict or options.task == "reach")


def status_of(outcome: Outcome, *, is_strict: bool) -> int:
    """Exit status of a demo: strict ones fail when the physics says that the task failed."""
    is_success = outcome.truth is not None and outcome.truth.is_success
    if not outcome.end.is_complete or (is_strict and not is_success):
        return NOT_ACHIEVED
    return DONE
