"""Options that several commands share, and the arm, the camera and the server that they mean."""

import argparse
import ipaddress
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from robot_client.arms.arm import Arm
from robot_client.arms.dummy import DummyArm
from robot_client.arms.replay import Playback, ReplayArm, ReplayCamera
from robot_client.cameras.camera import Camera
from robot_client.cameras.settings import load_camera_settings
from robot_client.cameras.sources import SOURCES, open_source
from robot_client.errors import TaskError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import DEFAULT_ADDRESS
from robot_client.rest import DEFAULT_URL, RestClient
from robot_client.run import say
from robot_client.server_process import ServerProcess
from robot_client.supervisor import Supervisor

_SIMULATED_CAMERA = "tcp://127.0.0.1:5560"
#: Where a camera is looked for when none is named.
_DEFAULT_CAMERAS = {"franky": "device:0", "sim": _SIMULATED_CAMERA, "dummy": "testcard"}


def add_robot(parser: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    """Add the options that choose arm and camera."""
    add = parser.add_argument
    kinds = ("franky", "sim", "dummy", "replay")
    add(
        "--arm",
        choices=kinds,
        required=is_required,
        default="dummy",
        help="franky is real hardware",
    )
    add(
        "--host",
        help="the arm's address; for --arm sim on this machine, and without it a simulator is started",
    )
    add("--episode", type=Path, help="for --arm replay: a recorded episode")
    add(
        "--arm-motion",
        action="store_true",
        help="let a real arm move; without it --arm franky only looks and plans",
    )
    _add_caps(parser)
    add("--robotiq", type=Path, help="serial port of a Robotiq 2F gripper instead of the Hand")
    add_camera(parser)
    add("--supervisor", help="take goals and verdict from a simulator, e.g. tcp://127.0.0.1:5561")
    add("--seed", type=int, default=1, help="of the planner's search and an own simulator")


def _add_caps(parser: argparse.ArgumentParser) -> None:
    """Add how a real arm may move."""
    add = parser.add_argument
    speed, share = _up_to(1.0, " m/s"), _up_to(1.0)
    force, torque = _up_to(100.0, " N"), _up_to(87.0, " Nm")  # what the strongest joint can do
    add("--max-speed", type=speed, default=0.25, help="cap for a real arm [m/s] (%(default)s)")
    add("--dynamics-factor", type=share, default=1.0, help="share of its dynamics (%(default)s)")
    add("--contact-force", type=force, default=30.0, help="stops a real arm [N] (%(default)s)")
    add("--contact-torque", type=torque, default=20.0, help="the same [Nm] (%(default)s)")


def add_camera(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a camera."""
    add = parser.add_argument
    add("--camera", help=f"{SOURCES}; default: the arm's own, device:0 for franky")
    add("--camera-settings", type=Path, help="YAML with size, exposure, white balance")


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the planner server."""
    add = parser.add_argument
    add("--server", help=f"planner over ZMQ ({DEFAULT_ADDRESS})")
    add("--http", help=f"the same over HTTP ({DEFAULT_URL})")
    add("--token", help="the server's PLANNER_TOKEN, where it has one")
    add("--key", type=Path, help="this robot's NAME.key_secret, where the server wants CURVE")
    add("--server-key", type=Path, help="the server's NAME.key")
    add("--planner", help="one of the server's planners; default: its own choice")


def _up_to(highest: float, unit: str = "") -> Callable[[str], float]:
    """Make a reader of numbers above 0, at most `highest`."""

    def number(text: str) -> float:
        if not 0.0 < (value := float(text)) <= highest:  # not a number fails, too
            raise argparse.ArgumentTypeError(
                f"{text}{unit}; more than 0 and at most {highest:g}{unit} is allowed"
            )
        return value

    return number


@dataclass(frozen=True, eq=False)
class Equipment:
    """Arm and camera, not yet connected, and the simulator's supervisor where there is one."""

    arm: Arm
    camera: Camera
    supervisor: Supervisor | None
    is_moving_allowed: bool


def robot_of(options: argparse.Namespace, stack: ExitStack, folder: Path, task: str) -> Equipment:
    """The robot that the options mean; an own simulator is started, and ended by `stack`.

    Args:
        options: Parsed, from `add_robot`.
        stack: Ends what is begun here.
        folder: For logs.
        task: Name of the task, for an own simulator.

    Raises:
        RobotClientError: The options do not fit together, or the simulator does not start.
    """
    settings = load_camera_settings(options.camera_settings)
    if options.arm == "replay":
        if options.episode is None:
            raise TaskError("--arm replay needs --episode, a folder that was recorded")
        playback = Playback(options.episode)
        return Equipment(
            ReplayArm(playback), ReplayCamera(playback), supervisor=None, is_moving_allowed=True
        )
    host, camera, supervisor = options.host, options.camera, options.supervisor
    if options.arm == "sim" and host is None:
        host, own_camera, own_supervisor = _own_simulator(options, stack, folder, task)
        camera, supervisor = camera or own_camera, supervisor or own_supervisor
    asked = None if supervisor is None else stack.enter_context(closing(Supervisor(supervisor)))
    source = camera or _DEFAULT_CAMERAS[options.arm]
    is_moving_allowed = options.arm != "franky" or options.arm_motion
    arm = _arm(options, host or "127.0.0.1")
    return Equipment(arm, open_source(source, settings), asked, is_moving_allowed)


def _own_simulator(
    options: argparse.Namespace, stack: ExitStack, folder: Path, task: str
) -> tuple[str, str, str]:
    from robot_client.arms.sim import SimulatorOptions, SimulatorProcess

    say("starting a simulated Franka ...")
    scene = SimulatorOptions(task, options.seed)
    ready = stack.enter_context(SimulatorProcess(scene, folder)).wait()
    return ready.robot, ready.camera, ready.supervisor


def _arm(options: argparse.Namespace, host: str) -> Arm:
    if options.arm == "dummy":
        return DummyArm()
    # libfranka is loaded only where an arm speaks it.
    from robot_client.arms.franky_arm import FrankyArm, FrankySettings

    if options.arm == "sim":
        from robot_client.arms.sim import SIMULATION_SETTINGS

        _check_is_here(host)
        return FrankyArm(host, SIMULATION_SETTINGS)
    if options.host is None:
        raise TaskError("--arm franky needs --host, the arm's address, e.g. --host 172.16.0.2")
    settings = FrankySettings(
        max_speed_m_s=options.max_speed,
        dynamics_factor=options.dynamics_factor,
        contact_force_n=options.contact_force,
        contact_torque_nm=options.contact_torque,
    )
    if options.robotiq is not None:
        from robot_client.arms.robotiq import RobotiqThread

        return FrankyArm(host, settings, RobotiqThread(options.robotiq))
    return FrankyArm(host, settings)


def _check_is_here(host: str) -> None:
    """Refuse an address that may be a real arm's: a simulated one moves unasked, and fast."""
    try:
        is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise TaskError(
            f"--arm sim --host {host}: a simulator is on this machine, e.g. --host 127.0.0.1; "
            "a real arm is --arm franky, and --arm-motion lets it move"
        )


def server_of(
    options: argparse.Namespace, stack: ExitStack, folder: Path
) -> tuple[PlannerClient, RestClient]:
    """The planner server that the options mean, not yet connected.

    A simulated run that names no server and finds none at the usual address starts its own.

    Args:
        options: Parsed, from `add_server`.
        stack: Ends what is begun here.
        folder: For logs.
    """
    url, endpoint = options.http or DEFAULT_URL, options.server or DEFAULT_ADDRESS
    rest = RestClient(url, options.token)
    is_free_to_choose = options.http is None and options.server is None
    if is_free_to_choose and options.arm == "sim" and not rest.is_ready():
        say(f"no planner server at {DEFAULT_URL}; starting one of its own ...")
        rest = RestClient(stack.enter_context(ServerProcess(folder)).wait())
        endpoint = rest.model()["zmq_endpoint"]
    address = ServerAddress(endpoint, options.token, options.key, options.server_key)
    return PlannerClient(address), rest
