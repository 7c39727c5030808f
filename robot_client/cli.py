"""Command line of the robot's side.

`run` drives an arm (or only looks: on hardware a dry run is the default), `demo` starts a server and
a simulated Franka and drives that.

Exit status: 0 done, 1 not achieved or stopped early, 2 it could not be done at all, 130 interrupted.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from robot_client.arms.arm import Arm
from robot_client.arms.dummy import DummyArm
from robot_client.cameras.camera import Camera
from robot_client.cameras.opencv import OpenCvCamera
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.cameras.testcard import TestCard
from robot_client.errors import RobotClientError, TaskError
from robot_client.interrupts import one_interrupt
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import DEFAULT_ADDRESS
from robot_client.recorder import Recorder, make_folder
from robot_client.rest import DEFAULT_URL, RestClient, SessionOptions
from robot_client.run import Outcome, Robot, carry_out, read_goals
from robot_client.server_link import ServerLink
from robot_client.supervisor import Supervisor
from robot_client.tasks import load_task

DONE, NOT_ACHIEVED, FAILED, INTERRUPTED = 0, 1, 2, 130

TASKS = Path(__file__).parents[1] / "configs" / "tasks"
_SIMULATED_CAMERA = "tcp://127.0.0.1:5560"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    level = logging.DEBUG if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        with one_interrupt():
            return int(options.command(options))
    except RobotClientError as error:
        logging.getLogger(__name__).debug("the way there", exc_info=True)
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the arm has been stopped\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m robot_client",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--verbose", action="store_true", help="log everything")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="drive an arm towards goal images"))
    _add_demo(commands.add_parser("demo", help="server, simulated Franka and client together"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_run)
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task file, e.g. configs/tasks/reach.yaml")
    add("--arm", choices=("franky", "sim", "dummy"), required=True, help="franky is real hardware")
    add("--host", default="127.0.0.1", help="the arm's address (default %(default)s)")
    add(
        "--arm-motion",
        action="store_true",
        help="let a real arm move; without it a run with --arm franky only looks and plans",
    )
    add(
        "--camera",
        help="tcp://HOST:PORT of a simulator, device:0 for a USB camera, a video file, or "
        "testcard; default: the simulator's for --arm sim, testcard for --arm dummy",
    )
    add("--goal", type=Path, action="append", default=[], help="goal image; once per sub-goal")
    add("--supervisor", help="take goals and verdict from a simulator, e.g. tcp://127.0.0.1:5561")
    add("--server", default=DEFAULT_ADDRESS, help="planner over ZMQ (default %(default)s)")
    add("--http", default=DEFAULT_URL, help="the same over HTTP (default %(default)s)")
    add("--token", help="the server's PLANNER_TOKEN, where it has one")
    add("--planner", help="one of the server's planners; default: its own choice")
    add("--max-speed", type=_speed, default=0.25, help="cap for a real arm [m/s] (%(default)s)")
    add("--seed", type=int, default=0, help="of the planner's search (default %(default)s)")
    add("--runs", type=Path, default=Path("runs"), help="where runs are kept (%(default)s/)")


def _speed(text: str) -> float:
    """A speed cap in m/s: above 0, at most 1."""
    if not 0.0 < (speed_m_s := float(text)) <= 1.0:  # not a number fails, too
        raise argparse.ArgumentTypeError(f"{text} m/s; more than 0 and at most 1 is allowed")
    return speed_m_s


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_demo)
    add = parser.add_argument
    names = sorted(path.stem for path in TASKS.glob("*.yaml"))
    add("--task", choices=names, default="reach", help="default %(default)s")
    add("--seed", type=int, default=0, help="of workcell, start and goal (default %(default)s)")
    add("--distance", choices=("near", "far"), default="near", help="from start to goal")
    add("--planner", help="one of the server's planners; default: its own choice")
    add("--model", type=Path, help="folder of another world model than the shipped one")
    add("--runs", type=Path, default=Path("runs"), help="where runs are kept (%(default)s/)")
    add("--strict", action="store_true", help="exit with 1 when any task is not achieved")


def _run(options: argparse.Namespace) -> int:
    task = load_task(options.task)
    with ExitStack() as stack:
        supervisor = None
        if options.supervisor is not None:
            supervisor = stack.enter_context(closing(Supervisor(options.supervisor)))
        files = [] if supervisor is None else supervisor.goals()
        files += [_read(path) for path in options.goal]
        goals = read_goals(files, task)
        rest = RestClient(options.http, options.token)
        client = PlannerClient(ServerAddress(options.server, options.token))
        session = SessionOptions(options.planner, task.gripper_from_plan, seed=options.seed)
        link = ServerLink(client, rest, session, files)
        is_moving_allowed = options.arm != "franky" or options.arm_motion
        robot = Robot(_arm(options), _camera(options), is_moving_allowed)
        folder = make_folder(options.runs, task.name)
        recorder = stack.enter_context(Recorder(folder, task, goals))
        outcome = carry_out(task, robot, link, recorder, supervisor)
    return DONE if outcome.end.is_complete else NOT_ACHIEVED


def _demo(options: argparse.Namespace) -> int:
    from robot_client.demo import DemoOptions, run_demo

    outcome = run_demo(
        DemoOptions(
            task=load_task(TASKS / f"{options.task}.yaml"),
            seed=options.seed,
            distance=options.distance,
            planner=options.planner,
            model=options.model,
            runs=options.runs,
        )
    )
    return _demo_status(outcome, is_strict=options.strict or options.task == "reach")


def _demo_status(outcome: Outcome, *, is_strict: bool) -> int:
    is_success = outcome.truth is not None and outcome.truth.is_success
    if not outcome.end.is_complete or (is_strict and not is_success):
        return NOT_ACHIEVED
    return DONE


def _arm(options: argparse.Namespace) -> Arm:
    if options.arm == "dummy":
        return DummyArm()
    # libfranka is loaded only where an arm speaks it.
    from robot_client.arms.franky_arm import FrankyArm, FrankySettings

    if options.arm == "sim":
        from robot_client.demo import SIMULATION_SETTINGS

        return FrankyArm(options.host, SIMULATION_SETTINGS)
    return FrankyArm(options.host, FrankySettings(max_speed_m_s=options.max_speed))


def _camera(options: argparse.Namespace) -> Camera:
    default = {"sim": _SIMULATED_CAMERA, "dummy": "testcard"}.get(options.arm)
    source = options.camera or default
    if source is None:
        raise TaskError("a real arm needs --camera, e.g. --camera device:0")
    if source == "testcard":
        return TestCard()
    if source.startswith("tcp://"):
        return SimulatedCamera(source)
    if source.startswith("device:"):
        number = source.removeprefix("device:")
        if not number.isdigit():
            raise TaskError(f"--camera {source}: device: is followed by a number, e.g. device:0")
        return OpenCvCamera(int(number))
    return OpenCvCamera(Path(source))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot read goal image {path}: {error.strerror}") from error
