"""`robot-client calibrate-axes`: by how much this camera turns what the planner infers."""

import argparse
import math
import tempfile
from contextlib import ExitStack
from pathlib import Path

from robot_client.calibration import Explorer, calibrate, directions, infer
from robot_client.commands import equipment
from robot_client.errors import TaskError
from robot_client.exits import DONE
from robot_client.rest import SessionOptions
from robot_client.run import say
from robot_client.tasks import load_task

NAME = "calibrate-axes"
HELP = "make a few small moves and fit how the camera turns the planner's axes"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task file whose limits hold")
    add("--step", type=float, default=0.06, help="length of a move [m] (%(default)s)")
    add("--move-time", type=float, default=1.5, help="time of a move [s] (%(default)s)")
    add("--full", action="store_true", help="fit any 3 x 3 matrix, with moves along z, too")
    add("--name", default="camera", help="name of the camera (%(default)s)")
    add("--output", type=Path, help="default configs/axes/NAME.json")
    equipment.add_robot(parser)
    equipment.add_server(parser)


def run(options: argparse.Namespace) -> int:
    """Move, ask, fit, store; returns the exit status."""
    task = load_task(options.task)
    if not 0.0 < options.step <= task.safety.max_step_m:
        text = f"--step {options.step} m; more than 0, at most max_step_m {task.safety.max_step_m}"
        raise TaskError(text)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        robot = equipment.robot_of(options, stack, logs, task.name)
        if not robot.is_moving_allowed:
            raise TaskError("calibrating moves the arm by a few centimetres; add --arm-motion")
        client, rest = equipment.server_of(options, stack, logs)
        stack.callback(robot.camera.disconnect)
        stack.callback(robot.arm.disconnect)  # before the camera's, which may take seconds
        robot.arm.connect()
        robot.camera.connect()
        explorer = Explorer(
            robot.arm, robot.camera, task.safety, options.step, options.move_time, say
        )
        moves = explorer.explore(directions(full=options.full))
        session = SessionOptions(options.planner, search_gripper=False, seed=options.seed)
        axes = calibrate(
            moves, infer(client, rest, session, moves), options.name, full=options.full
        )
    output = options.output or Path("configs/axes") / f"{options.name}.json"
    axes.save(output)
    angle, spread = math.degrees(axes.angle_rad), math.degrees(axes.angle_std_rad)
    say(f"turned by {angle:.1f} +- {spread:.1f} degrees, from {axes.moves} moves")
    before_cm, after_cm = 100 * axes.error_before_m, 100 * axes.error_after_m
    say(f"inferred displacements were off by {before_cm:.1f} cm, corrected by {after_cm:.1f} cm")
    say(f"written: {output}; use it with `robot-client run --axes {output}`")
    return DONE
