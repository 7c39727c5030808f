"""One recorded run: connect, loop, judge, write down. Shared by the `run` and `demo` commands."""

import dataclasses
import logging
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera
from robot_client.codec import EncodedImage
from robot_client.errors import CameraError, RobotClientError, TaskError
from robot_client.loop import ControlLoop, RunEnd, StepRecord
from robot_client.protocol import Welcome
from robot_client.recorder import Recorder, VideoThread, write_png
from robot_client.report import read_episode, write_report
from robot_client.server_link import ServerLink
from robot_client.supervisor import Supervisor, Truth
from robot_client.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Robot:
    """Body and eye, not yet connected; a dry run leaves the body still."""

    arm: Arm
    camera: Camera
    is_moving_allowed: bool


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
    task: Task, robot: Robot, link: ServerLink, recorder: Recorder, supervisor: Supervisor | None
) -> Outcome:
    """Do one run and leave its folder complete, also when it fails or is interrupted.

    Args:
        task: What to do.
        robot: Connected here, stopped and disconnected on every way out.
        link: Opened here, closed on every way out; carries one goal image per sub-goal.
        recorder: Open.
        supervisor: Where a simulator can be asked for the truth; shown and recorded as such.

    Raises:
        RobotClientError: It could not begin, or the arm failed.
        KeyboardInterrupt: Somebody stopped it; the arm stands.
    """
    status = _Status(task, recorder, supervisor)
    try:
        end = _loop(task, robot, link, recorder, status)
    except KeyboardInterrupt:
        _write(task, link, recorder, _cut_short(status, robot, "interrupted"), None)
        raise
    except RobotClientError as error:
        _write(task, link, recorder, _cut_short(status, robot, str(error)), None)
        raise
    return _write(task, link, recorder, end, status.truth())


def _loop(
    task: Task, robot: Robot, link: ServerLink, recorder: Recorder, status: "_Status"
) -> RunEnd:
    with ExitStack() as stack:
        stack.callback(robot.arm.disconnect)
        robot.arm.connect()
        stack.callback(robot.camera.disconnect)
        robot.camera.connect()
        stack.callback(link.close)
        welcome = link.open()
        say(f"model {welcome.model}, control period {welcome.control_period_s:g} s, {_mode(robot)}")
        stack.enter_context(VideoThread(recorder.folder / "camera.mp4", robot.camera, recorder))
        loop = ControlLoop(
            robot.arm, robot.camera, link, task, robot.is_moving_allowed, status.on_step
        )
        end = loop.run()
        _keep_last_frame(robot.camera, recorder)
    return end


def _cut_short(status: "_Status", robot: Robot, reason: str) -> RunEnd:
    return RunEnd(
        is_complete=False,
        reason=reason,
        steps=status.executed,
        missed=status.missed,
        is_dry_run=not robot.is_moving_allowed,
    )


def _write(
    task: Task, link: ServerLink, recorder: Recorder, end: RunEnd, truth: Truth | None
) -> Outcome:
    headline = _headline(end, truth)
    lines = read_episode(recorder.folder)
    recorder.summarise(_summary(task, link.client.welcome, end, truth, headline, lines))
    say(headline)
    say(f"report: {write_report(recorder.folder)}")
    return Outcome(end, truth, recorder.folder, headline)


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
            f"goal images in this order; {len(files)} given"
        )
    kinds = ["png" if data.startswith(b"\x89PNG") else "jpeg" for data in files]
    return [EncodedImage(kind, data).decode() for kind, data in zip(kinds, files, strict=True)]


class _Status:
    """Writes each pass down and says it in one line."""

    def __init__(self, task: Task, recorder: Recorder, supervisor: Supervisor | None) -> None:
        self._task = task
        self._recorder = recorder
        self._supervisor = supervisor
        self.executed = 0
        self.missed = 0

    def on_step(self, record: StepRecord) -> None:
        self.executed += record.is_executed
        self.missed += record.problem is not None
        truth = self.truth()
        self._recorder.add(record, truth)
        say(self._line(record, truth))

    def truth(self) -> Truth | None:
        """What the simulator says now; None on hardware, and where it does not answer."""
        try:
            return None if self._supervisor is None else self._supervisor.truth()
        except RobotClientError as error:
            logger.warning("%s", error)
            return None

    def _line(self, record: StepRecord, truth: Truth | None) -> str:
        sub_goal = self._task.sub_goals[record.goal_index]
        parts = [f"{sub_goal.name} {record.step + 1}/{self._task.max_steps}"]
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


def _mode(robot: Robot) -> str:
    return "the arm moves" if robot.is_moving_allowed else "dry run: the arm stays still"


def _keep_last_frame(camera: Camera, recorder: Recorder) -> None:
    try:
        write_png(recorder.folder / "end.png", camera.newest(1.0).frame)
    except CameraError as error:
        logger.warning("no picture of the end: %s", error)


def _headline(end: RunEnd, truth: Truth | None) -> str:
    if not end.is_complete:
        return f"STOPPED after {end.steps} steps: {end.reason}"
    if end.is_dry_run:
        return f"DRY RUN over after {end.steps} plans; the arm was not told to move"
    if truth is None:
        return f"DONE after {end.steps} steps; whether the task succeeded is for you to judge"
    word = "SUCCESS" if truth.is_success else "NOT ACHIEVED"
    return f"{word} after {end.steps} steps: {truth.reason} (read from the physics)"


def _summary(
    task: Task,
    welcome: Welcome | None,
    end: RunEnd,
    truth: Truth | None,
    headline: str,
    lines: list[dict[str, Any]],
) -> dict[str, Any]:
    plans_ms = [line["plan_ms"] for line in lines if "plan_ms" in line]
    latencies_ms = [line["latency_ms"] for line in lines if line["latency_ms"] is not None]
    settings = f"{statistics.median(plans_ms):.0f} ms a plan" if plans_ms else "no plan was made"
    if welcome is not None:
        settings = f"model {welcome.model}, {welcome.control_period_s:g} s a step, {settings}"
    return {
        "task": task.name,
        "description": task.description,
        "headline": headline,
        "end": dataclasses.asdict(end),
        "verdict": None if truth is None else dataclasses.asdict(truth),
        "model": None if welcome is None else welcome.model,
        "control_period_s": None if welcome is None else welcome.control_period_s,
        "median_plan_ms": statistics.median(plans_ms) if plans_ms else None,
        "max_latency_ms": max(latencies_ms, default=None),
        "settings": settings,
    }
