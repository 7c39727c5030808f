"""`robot-client teach`: bring the arm to each sub-goal and photograph it there."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from robot_client.commands import equipment
from robot_client.exits import DONE, NOT_ACHIEVED
from robot_client.keyboard import read_key, single_keys
from robot_client.run import say
from robot_client.tasks import load_task
from robot_client.teaching import KEYS, Teaching

NAME = "teach"
HELP = "drive or guide the arm to each sub-goal and take its goal image"

_POLL_S = 0.1


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task to take the sub-goals from")
    add("--output", type=Path, required=True, help="folder for the images and the new task file")
    add("--guide", action="store_true", help="guide the arm by hand; keys do not move it")
    equipment.add_robot(parser)


def run(options: argparse.Namespace) -> int:
    """Teach; returns the exit status."""
    task = load_task(options.task)
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        robot = equipment.robot_of(options, stack, logs, task.name)
        stack.callback(robot.camera.disconnect)
        stack.callback(robot.arm.disconnect)  # before the camera's, which may take seconds
        robot.arm.connect()
        robot.camera.connect()
        is_moving_allowed = robot.is_moving_allowed and not options.guide
        teaching = Teaching(
            robot.arm, robot.camera, task, options.output.resolve(), is_moving_allowed, say
        )
        say(KEYS if is_moving_allowed else "the arm stays still: guide it by hand; enter, x")
        if not _press_keys(teaching):
            say("given up; nothing is written but the images taken so far")
            return NOT_ACHIEVED
        path = teaching.finish()
    say(f"taught: robot-client run --task {path}")
    return DONE


def _press_keys(teaching: Teaching) -> bool:
    """Follow the keyboard until every sub-goal has its image; False when given up."""
    with single_keys():
        say(f"sub-goal {teaching.wanted}: bring the arm there, then press enter")
        while not teaching.is_finished:
            key = read_key(_POLL_S)
            if key is None:
                continue
            if key in ("x", ""):
                return False
            before = teaching.wanted
            teaching.press(key)
            if not teaching.is_finished and teaching.wanted != before:
                say(f"sub-goal {teaching.wanted}: bring the arm there, then press enter")
    return True
