"""One recorded run: connect, loop, judge, write down. Shared by the `run` and `demo` commands."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_client.arms.arm import Arm
from robot_client.attendant import Operator, Unattended
from robot_client.cameras.camera import Camera
from robot_client.codec import EncodedImage
from robot_client.errors import CameraError, RobotClientError, TaskError
from robot_client.loop import ControlLoop, LoopOptions
from robot_client.recorder import Film, Recorder, write_png
from robot_client.records import Event, RunEnd, StepRecord
from robot_client.report import read_episode, write_report
from robot_client.server_link import ServerLink
from robot_client.summary import headline_of, summary_of
from robot_client.supervisor import Supervisor, Truth
from robot_client.tasks import Task

logger = logging.getLogger(__name__)

_SHOWN_EVENTS = (
    "pause",
    "resume",
    "stop",
    "reflex",
    "recovered",
    "reconnected",
    "retry",
    "refused",
)


@dataclass(frozen=True, eq=False)
class Robot:
    """Body and eye, not yet connected; a dry run leaves the body still."""

    arm: Arm
    camera: Camera
    is_moving_allowed: bool


@dataclass(frozen=True, eq=False)
class Manner:
    """How a run is done, apart from the task and the robot.

    Attributes:
        options: Of the control loop.
        operator: The person beside the arm.
        watch: Shown every pass, e.g. by a viewer; None for nobody.
    """

    options: LoopOptions = field(default_factory=LoopOptions)
    operator: Operator = field(default_factory=Unattended)
    watch: Callable[[StepRecord], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        end: How the loop ended.
        truth: The simulator's verdict; None on hardware.
        folder: Where everything is written.
        headline: One sentence that says how it went.
    """

    end: RunEnd
    truth: Truth | None
    folder: Path
    headline: str


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def carry_out(
    task: Task,
    robot: Robot,
    link: ServerLink,
    recorder: Recorder,
    supervisor: Supervisor | None,
    manner: Manner | None = None,
) -> Outcome:
    """Do one run and leave its folder complete, also when it fails or is interrupted.

    Args:
        task: What to do.
        robot: Connected here, stopped and disconnected on every way out.
        link: Opened here, closed on every way out; carries one goal image per sub-goal.
        recorder: Open.
        supervisor: Where a simulator can be asked for the truth; shown and recorded as such.
        manner: How to do it; None for the loop's defaults and nobody to ask.

    Raises:
        RobotClientError: It could not begin, or the arm failed.
        KeyboardInterrupt: Somebody stopped it; the arm stands.
    """
    run = _Run(task, robot, link, recorder, supervisor, manner or Manner())
    try:
        end = run.loop()
    except KeyboardInterrupt:
        run.write(run.cut_short("interrupted"), None)
        raise
    except RobotClientError as error:
        run.write(run.cut_short(str(error)), None)
        raise
    return run.write(end, run.truth())


def read_goals(files: Sequence[bytes], task: Task) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Decode goal images (PNG or JPEG) and hold them against the task.

    Raises:
        TaskError: Not one per sub-goal.
        ProtocolError: A file is no image.
    """
    if len(files) != len(task.sub_goals):
        names = ", ".join(sub_goal.name for sub_goal in task.sub_goals)
        raise TaskError(
            f"task {task.name} has {len(task.sub_goals)} sub-goals ({names}) and so needs as many "
            f"goal images in this order; {len(files)} given. Make them with `robot-client teach`, "
            "or name them with --goal"
        )
    kinds = ["png" if data.startswith(b"\x89PNG") else "jpeg" for data in files]
    return [EncodedImage(kind, data).decode() for kind, data in zip(kinds, files, strict=True)]


@dataclass(eq=False)
class _Run:
    """One run under way: writes each pass down and says it in one line."""

    task: Task
    robot: Robot
    link: ServerLink
    recorder: Recorder
    supervisor: Supervisor | None
    manner: Manner
    executed: int = 0
    missed: int = 0

    def loop(self) -> RunEnd:
        robot, link = self.robot, self.link
        with ExitStack() as stack:
            stack.callback(robot.arm.disconnect)
            robot.arm.connect()
            stack.callback(robot.camera.disconnect)
            robot.camera.connect()
            stack.callback(link.close)
            welcome = link.open()
            mode = "the arm moves" if robot.is_moving_allowed else "dry run: the arm stays still"
            say(f"model {welcome.model}, control period {welcome.control_period_s:g} s, {mode}")
            attributes = {"model": welcome.model, "control_period_s": welcome.control_period_s}
            film = stack.enter_context(
                Film(robot.arm, robot.camera, self.recorder, self.task, attributes)
            )
            loop = ControlLoop(
                arm=robot.arm,
                camera=robot.camera,
                link=link,
                task=self.task,
                is_moving_allowed=robot.is_moving_allowed,
                on_step=self.on_step,
                on_event=self.on_event,
                operator=self.manner.operator,
                options=self.manner.options,
            )
            end = loop.run()
            film.is_success = end.is_success
            self._keep_last_frame()
        if film.problem is not None:
            self.on_event(Event("recording", f"the film is not whole: {film.problem}"))
        return end

    def on_step(self, record: StepRecord) -> None:
        self.executed += record.is_executed
        self.missed += record.problem is not None
        truth = self.truth()
        self.recorder.add(record, truth)
        say(self._line(record, truth))
        if self.manner.watch is not None:
            self.manner.watch(record)

    def on_event(self, event: Event) -> None:
        logger.info("%s: %s", event.kind, event.text)
        self.recorder.note(event)
        if event.kind in _SHOWN_EVENTS:
            say(f"{event.kind.upper()}: {event.text}")

    def truth(self) -> Truth | None:
        """What the simulator says now; None on hardware, and where it does not answer."""
        try:
            return None if self.supervisor is None else self.supervisor.truth()
        except RobotClientError as error:
            logger.warning("%s", error)
            return None

    def cut_short(self, reason: str) -> RunEnd:
        return RunEnd(
            is_complete=False,
            reason=reason,
            steps=self.executed,
            missed=self.missed,
            is_dry_run=not self.robot.is_moving_allowed,
        )

    def write(self, end: RunEnd, truth: Truth | None) -> Outcome:
        headline = headline_of(end, truth)
        lines = read_episode(self.recorder.folder)
        summary = summary_of(self.task, self.link.client.welcome, end, truth, lines)
        self.recorder.summarise({**summary, "headline": headline})
        say(headline)
        say(f"report: {write_report(self.recorder.folder)}")
        return Outcome(end, truth, self.recorder.folder, headline)

    def _line(self, record: StepRecord, truth: Truth | None) -> str:
        sub_goal = self.task.sub_goals[record.goal_index]
        parts = [f"{sub_goal.name} {record.step + 1}/{self.task.max_steps}"]
        if record.act is not None:
            parts.append(f"energy {record.act.energy_now:.3f} -> {record.act.energy:.3f}")
            parts.append(f"plan {record.act.plan_ms:.0f} ms")
        if record.filtered is not None:
            parts.append(f"step {100 * float(np.linalg.norm(record.filtered.action[:3])):.1f} cm")
            parts.extend(record.filtered.warnings)
        if record.gripper != "hold":
            parts.append(f"gripper {record.gripper}")
        if record.problem is not None:
            parts.append(f"HOLD: {record.problem}")
        if truth is not None:
            parts.append(f"[simulator's truth: {truth.reason}]")
        return "  ".join(parts)

    def _keep_last_frame(self) -> None:
        try:
            write_png(self.recorder.folder / "end.png", self.robot.camera.newest(1.0).frame)
        except CameraError as error:
            logger.warning("no picture of the end: %s", error)
