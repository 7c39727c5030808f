"""The demo: a planner server, a simulated Franka and this client, started together on one machine.

Everything goes the way it goes on hardware: frames and plans over ZMQ, goal images over HTTP,
motions over libfranka's own protocol. Only the goal images and the final verdict come from the
simulator's supervisor, whom the planner never meets.
"""

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from robot_client.arms.franky_arm import FrankyArm
from robot_client.arms.sim import SIMULATION_SETTINGS, SimulatorOptions, SimulatorProcess
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.recorder import Recorder, make_folder
from robot_client.rest import RestClient, SessionOptions
from robot_client.run import Manner, Outcome, Robot, carry_out, read_goals, say
from robot_client.server_link import ServerLink
from robot_client.server_process import ServerProcess
from robot_client.supervisor import Supervisor
from robot_client.tasks import Task


@dataclass(frozen=True)
class DemoOptions:
    """What a demo run is.

    Attributes:
        task: What to do.
        seed: Of the workcell, its start and goal, and of the planner's random numbers.
        distance: "near" or "far": how far the start is from the goal.
        planner: Name of the server's planner; None for its default.
        model: Folder of the world model; None for the shipped one.
        runs: Folder of all runs.
        manner: How the loop runs.
    """

    task: Task
    seed: int
    distance: str
    planner: str | None
    model: Path | None
    runs: Path
    manner: Manner = field(default_factory=Manner)


def run_demo(options: DemoOptions) -> Outcome:
    """Start server and simulator, do the task, end both.

    Raises:
        RobotClientError: A program did not start, or the run failed; both are ended all the same.
        KeyboardInterrupt: Somebody stopped it; both are ended all the same.
    """
    folder = make_folder(options.runs, options.task.name)
    scene = SimulatorOptions(options.task.name, options.seed, options.distance)
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess(folder, options.model))
        simulator = stack.enter_context(SimulatorProcess(scene, folder))
        say("starting the planner server ...")
        url = server.wait()
        say(f"planner server ready at {url} after {server.waited_s():.1f} s")
        say("starting the simulated Franka ...")
        ready = simulator.wait()
        say(f"simulated Franka ready at {ready.robot} after {simulator.waited_s():.1f} s")
        supervisor = stack.enter_context(closing(Supervisor(ready.supervisor)))
        files = supervisor.goals()
        goals = read_goals(files, options.task)
        rest = RestClient(url)
        card = rest.model()
        session = SessionOptions(
            planner=options.planner,
            search_gripper=options.task.gripper_from_plan,
            seed=options.seed,
        )
        link = ServerLink(PlannerClient(ServerAddress(card["zmq_endpoint"])), rest, session, files)
        arm = FrankyArm(ready.robot, SIMULATION_SETTINGS)
        robot = Robot(arm, SimulatedCamera(ready.camera), is_moving_allowed=True)
        config = {"arm": "sim", "seed": options.seed, "distance": options.distance, "model": card}
        recorder = stack.enter_context(Recorder(folder, options.task, goals, config))
        return carry_out(options.task, robot, link, recorder, supervisor, options.manner)
