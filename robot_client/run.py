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
from robot_client.errors import CameraError, RecordingError, RobotClientError, TaskError
from robot_client.film import Film
from robot_client.loop import ControlLoop, LoopOptions
from robot_client.protocol import Welcome
from robot_client.recorder import Recorder, write_png
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
    "cut short",
    "recording",
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
    film: Film | None = None
    model_sha256: str | None = None
    _told: set[str] = field(default_factory=set)

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
            attributes = self._attributes(welcome)
            film = stack.enter_context(
                Film(robot.arm, robot.camera, self.recorder, self.task, attributes)
            )
            self.film = film
            loop = ControlLoop(
                arm=robot.arm,
                camera=robot.camera,
                link=link,
                task=self.task,
                is_moving_allowed=robot.is_moving_allowed,
                on_step=self.on_step,
                on_event=self.on_event,
                on_motion=self.recorder.show,
                operator=self.manner.operator,
                options=self.manner.options,
            )
            end = loop.run()
            film.is_success = end.is_success
            self._keep_last_frame()
        self._look_after_records()  # the film may have failed at its very end
        return end

    def _attributes(self, welcome: Welcome) -> dict[str, Any]:
        """What stands in the episode's metadata."""
        try:
            self.model_sha256 = self.link.rest.model().get("sha256")
        except RobotClientError as error:
            logger.warning("the model's hash is not known: %s", error)
        return {
            "model": welcome.model,
            "model_sha256": self.model_sha256,
            "control_period_s": welcome.control_period_s,
            "session": welcome.session,  # so that the server's history finds this recording
        }

    def on_step(self, record: StepRecord) -> None:
        self.executed += record.is_executed
        self.missed += record.problem is not None
        truth = self.truth()
        self.recorder.add(record, truth)
        self._tell(self._line(record, truth))
        self._look_after_records()
        if self.manner.watch is not None:
            self.manner.watch(record)

    def on_event(self, event: Event) -> None:
        logger.info("%s: %s", event.kind, event.text)
        self.recorder.note(event)
        if event.kind in _SHOWN_EVENTS:
            self._tell(f"{event.kind.upper()}: {event.text}")

    def _look_after_records(self) -> None:
        """Tell, once each, that the film or the lines are not whole: the arm goes on all the same."""
        film = None if self.film is None else self.film.problem
        for what, problem in (("film", film), ("log", self.recorder.problem)):
            if problem is not None and what not in self._told:
                self._told.add(what)
                text = f"the {what} has a gap from here on: {problem}. The run goes on; to end it: Ctrl+C"
                logger.error("%s", text)
                self.on_event(Event("recording", text))

    def _tell(self, text: str) -> None:
        """Say something that is no reason to let the arm stop, should the terminal be gone."""
        try:
            say(text)
        except OSError as error:
            logger.error("nothing can be said any more: %s", error)

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
        folder = self.recorder.folder
        lines = read_episode(folder)
        summary = summary_of(
            self.task, self.link.client.welcome, end, truth, lines, self.model_sha256
        )
        summary["recording"] = {"problem": self.recorder.problem, "lost": self.recorder.lost}
        self._tell(headline)
        try:
            self.recorder.summarise({**summary, "headline": headline})
            self._tell(f"report: {write_report(folder)}")
        except OSError as error:
            text = f"no summary in {folder}: {error}. What was recorded before is whole"
            self._tell(f"RECORDING: {text}; see `python -m trajectories recover {folder}`")
        return Outcome(end, truth, folder, headline)

    def _line(self, record: StepRecord, truth: Truth | None) -> str:
        sub_goal = self.task.sub_goals[record.goal_index]
        parts = [f"{sub_goal.name} {record.step + 1}/{self.task.max_steps}"]
        if record.act is not None:
            parts.append(f"energy {record.act.energy_now:.3f} -> {record.act.energy:.3f}")
            parts.append(f"plan {record.act.plan_ms:.0f} ms")
        if record.filtered is not None:
            parts.append(f"step {100 * float(np.linalg.norm(record.filtered.action[:3])):.1f} cm")
            parts.extend(record.filtered.warnings)
        if record.cut_short is not None and record.left_m is not None:
            parts.append(f"cut short {100 * record.left_m:.1f} cm before the target")
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
        except (CameraError, RecordingError) as error:
            logger.warning("no picture of the end: %s", error)
