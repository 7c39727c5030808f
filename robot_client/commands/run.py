"""`robot-client run`: drive an arm towards goal images."""

import argparse
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from robot_client.attendant import Console, Unattended
from robot_client.axes import Axes
from robot_client.commands import equipment
from robot_client.errors import TaskError
from robot_client.exits import DONE, NOT_ACHIEVED
from robot_client.loop import LoopOptions
from robot_client.recorder import Recorder, make_folder
from robot_client.rest import SessionOptions
from robot_client.resume import goal_to_resume
from robot_client.run import Manner, Outcome, Robot, carry_out, read_goals, say
from robot_client.server_link import ServerLink
from robot_client.supervisor import Supervisor
from robot_client.tasks import Task, load_task

NAME = "run"
HELP = "drive an arm towards goal images"
#: A replayed arm goes its own way.
_UNLIMITED = {"max_deviation_m": 0.5, "max_miss_m": 0.5, "max_miss_rad": 3.2}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task file, e.g. configs/tasks/reach.yaml")
    add("--goal", type=Path, action="append", default=[], help="goal image; once per sub-goal")
    equipment.add_robot(parser)
    equipment.add_server(parser)
    add_manner(parser)
    add("--runs", type=Path, default=Path("runs"), help="where runs are kept (%(default)s/)")
    add("--resume", type=Path, help="folder of a broken run: go on with its last sub-goal")
    add("--lerobot", type=Path, help="also append the episode to this LeRobot v3 data set")


def add_manner(parser: argparse.ArgumentParser) -> None:
    """Add the options of the control loop."""
    add = parser.add_argument
    add("--overlap", action="store_true", help="plan the next motion during the present one")
    add("--chunk", type=int, default=1, help="actions of a plan before the next look (%(default)s)")
    add("--confirm-steps", action="store_true", help="ask for a key before every motion")
    add(
        "--unattended", action="store_true", help="nobody is there to ask; the safe answer is taken"
    )
    add("--axes", type=Path, help="camera correction made by `robot-client calibrate-axes`")
    add("--rerun", help="show the run in Rerun: live, or a file to write, e.g. run.rrd")


def manner_of(options: argparse.Namespace) -> Manner:
    """The loop's manner that the options mean."""
    try:
        loop = LoopOptions(
            overlap=options.overlap,
            chunk=options.chunk,
            confirm_steps=options.confirm_steps,
            axes=None if options.axes is None else Axes.load(options.axes),
        )
    except ValueError as error:
        raise TaskError(f"these options do not go together: {error}") from error
    watch = None
    if options.rerun is not None:
        from robot_client.viewer import RerunViewer

        watch = RerunViewer(options.rerun).show
    return Manner(loop, Unattended() if options.unattended else Console(), watch)


def run(options: argparse.Namespace) -> int:
    """Do one run; returns the exit status."""
    task = load_task(options.task)
    if options.lerobot is not None:
        import_module("pyarrow")  # is it missing, then say so before the arm moves
    with ExitStack() as stack:
        folder = make_folder(options.runs, task.name)
        outcome = _run(options, task, folder, stack)
    if options.lerobot is not None:
        _append(outcome.folder, options.lerobot)
    is_failure = outcome.end.is_success is False
    return DONE if outcome.end.is_complete and not is_failure else NOT_ACHIEVED


def _run(options: argparse.Namespace, task: Task, folder: Path, stack: ExitStack) -> Outcome:
    robot = equipment.robot_of(options, stack, folder, task.name)
    if options.arm == "replay":
        safety = task.safety.model_copy(update=_UNLIMITED)
        task = task.model_copy(update={"safety": safety})
    files = goal_files(task, options.goal, robot.supervisor)
    goals = read_goals(files, task)
    if options.resume is not None:
        task = goal_to_resume(options.resume, task)
        files, goals = files[-len(task.sub_goals) :], goals[-len(task.sub_goals) :]
    client, rest = equipment.server_of(options, stack, folder)
    session = SessionOptions(options.planner, task.gripper_from_plan, seed=options.seed)
    link = ServerLink(client, rest, session, files)
    config = {name: str(value) for name, value in vars(options).items() if name != "token"}
    config.pop("command")
    recorder = stack.enter_context(Recorder(folder, task, goals, config))
    body = Robot(robot.arm, robot.camera, robot.is_moving_allowed)
    return carry_out(task, body, link, recorder, robot.supervisor, manner_of(options))


def goal_files(task: Task, named: list[Path], supervisor: Supervisor | None) -> list[bytes]:
    """Goal images as files: those named on the command line, else the task's, else the simulator's.

    Raises:
        TaskError: One cannot be read.
    """
    own = [sub_goal.image for sub_goal in task.sub_goals]
    if named:
        return [_read(path) for path in named]
    if all(path is not None for path in own):
        return [_read(path) for path in own if path is not None]
    return [] if supervisor is None else supervisor.goals()


def _append(folder: Path, root: Path) -> None:
    from robot_client.film import VIDEO_FPS
    from trajectories.dataset import open_episode
    from trajectories.lerobot.writer import LeRobotWriter

    with LeRobotWriter(root, fps=VIDEO_FPS) as writer, open_episode(folder) as episode:
        writer.add(episode)
    say(f"appended to the LeRobot data set {root}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot read goal image {path}: {error.strerror}") from error
