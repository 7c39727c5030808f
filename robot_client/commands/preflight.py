"""`robot-client preflight`: is everything ready? Nothing moves."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from robot_client.commands import equipment
from robot_client.exits import DONE, NOT_ACHIEVED
from robot_client.preflight import Preflight
from robot_client.run import say
from robot_client.tasks import load_task

NAME = "preflight"
HELP = "check server, model, camera, arm, limits and clock; nothing moves"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    parser.add_argument("--task", type=Path, required=True, help="task file whose limits must fit")
    equipment.add_robot(parser)
    equipment.add_server(parser)


def run(options: argparse.Namespace) -> int:
    """Run the checks; returns 1 when one fails."""
    task = load_task(options.task)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        robot = equipment.robot_of(options, stack, folder, task.name)
        client, rest = equipment.server_of(options, stack, folder)
        needs_realtime = options.arm == "franky"
        preflight = Preflight(rest, client, robot.arm, robot.camera, task, needs_realtime)
        is_ready = True
        for check in preflight.checks():
            say(f"{'ok  ' if check.is_ok else 'FAIL'}  {check.name:<11} {check.text}")
            is_ready &= check.is_ok
    say("ready" if is_ready else "not ready: see FAIL above")
    return DONE if is_ready else NOT_ACHIEVED
