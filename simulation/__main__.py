"""Command line of the simulator: make training data, look at it, serve a robot, evaluate policies."""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
from pathlib import Path

from simulation.arguments import read_count, read_rate, read_seed
from simulation.errors import SimulationError
from simulation.evaluation.options import add_card, add_evaluate
from simulation.variation import OBJECT_KINDS
from trajectories.errors import TrajectoryError

_TERMINATED = 128 + signal.SIGTERM


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(options.run(options))
    except (SimulationError, TrajectoryError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {error}; pip install 'vjepa-planner[sim]'\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="simulate training episodes"))
    _add_show(commands.add_parser("show", help="draw workcells, goals or episodes as one PNG"))
    _add_serve(commands.add_parser("serve", help="run the workcell in real time, as a Franka"))
    add_evaluate(
        commands.add_parser("evaluate", help="let policies work on the tasks and judge them")
    )
    add_card(
        commands.add_parser("card", help="write results of evaluate into README or model card")
    )
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--recipe", type=Path, help="YAML file such as configs/simulation/*.yaml")
    parser.add_argument("--episodes", type=int, help="in place of the recipe's, by default 2000")
    parser.add_argument("--seed", type=int, help="in place of the recipe's, by default 0")
    parser.add_argument("--workers", type=read_count, default=2, help="processes, default 2")
    parser.set_defaults(run=_generate)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--data", type=Path, help="draw episodes of this data set")
    parser.add_argument("--task", choices=("reach", "grasp", "pick_and_place"), help="draw goals")
    parser.add_argument(
        "--seed", type=read_seed, default=0, help="first seed or episode, default 0"
    )
    parser.add_argument("--count", type=read_count, default=12, help="default 12")
    parser.set_defaults(run=_show)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="the arm's loopback address, or auto; default 127.0.0.1"
    )
    parser.add_argument("--camera", default="tcp://127.0.0.1:5560", help="ZMQ publisher")
    parser.add_argument(
        "--camera-yaw", type=float, default=0.0, help="camera turned about the table [degrees]"
    )
    parser.add_argument("--supervisor", default="tcp://127.0.0.1:5561", help="ZMQ replier")
    parser.add_argument("--camera-rate", type=read_rate, default=12.0, help="frames/s, default 12")
    tasks = ("reach", "grasp", "pick_and_place")
    parser.add_argument("--task", choices=tasks, default="reach", help="default reach")
    parser.add_argument("--seed", type=read_seed, default=0, help="of workcell, start and goal")
    parser.add_argument("--distance", choices=("near", "far"), default="near", help="to the goal")
    parser.add_argument("--object", choices=OBJECT_KINDS, help="default: the seed decides")
    parser.set_defaults(run=_serve)


def _generate(options: argparse.Namespace) -> int:
    from simulation.generate import generate
    from simulation.recipe import load_recipe

    # An exception unwinds the pool; the default of SIGTERM would leave its workers writing on.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(_TERMINATED))
    given = {"episodes": options.episodes, "seed": options.seed}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = load_recipe(options.recipe, changes)
    count = generate(options.output, recipe, options.workers)
    sys.stdout.write(f"{count} episodes written to {options.output}\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    from simulation import contact_sheet

    if options.data is not None:
        sheet = contact_sheet.of_episodes(options.data, options.seed, options.count)
    elif options.task is not None:
        sheet = contact_sheet.of_tasks(options.task, options.seed, options.count)
    else:
        sheet = contact_sheet.of_variations(options.seed, options.count)
    contact_sheet.write(sheet, options.output)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from simulation.live import Endpoints, LiveWorkcell
    from simulation.tasks import FAR_M, NEAR_M, make_task

    endpoints = Endpoints(options.host, options.camera, options.supervisor)
    task = make_task(
        options.task,
        options.seed,
        FAR_M if options.distance == "far" else NEAR_M,
        options.object,
        camera_yaw_rad=math.radians(options.camera_yaw),
    )
    workcell = LiveWorkcell(task, endpoints, options.camera_rate)
    endpoints = workcell.endpoints
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: workcell.stop())
    ready = {
        "event": "ready",
        "robot": endpoints.host,
        "camera": endpoints.camera,
        "supervisor": endpoints.supervisor,
        "task": task.name,
        "seed": task.seed,
    }

    def announce() -> None:
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()

    workcell.run(announce)
    return 0


if __name__ == "__main__":
    sys.exit(main())
