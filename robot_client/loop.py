"""The control loop: look, ask, check, move, once per control period of the model.

Whatever the server does, the arm obeys this loop's own rules: a period without a usable plan ends in
a hold, several in a row end the run, a motion is cut short when the server falls silent meanwhile,
and however the loop is left, the arm is stopped.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from robot_client.arms.arm import Arm, ArmState
from robot_client.cameras.camera import Camera, CapturedFrame
from robot_client.errors import ArmError, CameraError
from robot_client.gripper_rule import GripperRule
from robot_client.inquiry import Inquiry, NoPlanError, PatienceLostError
from robot_client.protocol import Act, Observe
from robot_client.safety import Asked, FilteredAction, Vector, deviation_m, filter_plan
from robot_client.server_link import ServerLink
from robot_client.tasks import GripperAction, Task, TaskProgress
from trajectories import poses

logger = logging.getLogger(__name__)

_MAX_FRAME_AGE_S = 0.5
_GRIPPER_TIMEOUT_S = 3.0
_POLL_S = 0.02
_SETTLE_PERIODS = 3


@dataclass(eq=False)
class StepRecord:
    """One pass of the loop, as it is recorded; what did not happen stays None.

    Attributes:
        step: Plans executed before this pass.
        goal_index: Sub-goal under way.
        captured: The frame that was sent.
        state: The measured state that was sent.
        act: The server's plan.
        filtered: What safety made of it.
        is_executed: Whether the arm was told to move.
        gripper: What the gripper was told.
        latency_ms: From the frame's capture to the plan's arrival [ms].
        problem: Why nothing was executed, where that was not intended.
    """

    step: int
    goal_index: int
    captured: CapturedFrame | None = None
    state: ArmState | None = None
    act: Act | None = None
    filtered: FilteredAction | None = None
    is_executed: bool = False
    gripper: GripperAction = "hold"
    latency_ms: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, without judging the task.

    Attributes:
        is_complete: Every sub-goal had its turn.
        reason: One sentence.
        steps: Plans followed; in a dry run, plans that were only looked at.
        missed: Control periods without a usable plan.
        is_dry_run: The arm was never told to move.
    """

    is_complete: bool
    reason: str
    steps: int
    missed: int
    is_dry_run: bool


@dataclass(eq=False)
class ControlLoop:
    """One run of one task.

    Attributes:
        arm: Connected.
        camera: Connected.
        link: Open.
        task: What to do.
        is_moving_allowed: False for a dry run: everything happens except motion.
        on_step: Gets the record of each pass; must return quickly.
    """

    arm: Arm
    camera: Camera
    link: ServerLink
    task: Task
    is_moving_allowed: bool
    on_step: Callable[[StepRecord], None]
    _gripper_rule: GripperRule = field(default_factory=GripperRule)
    _seq: int = 0
    _executed: int = 0

    def run(self) -> RunEnd:
        """Do the task; the arm is at rest when this returns or raises.

        Raises:
            ArmError: The arm stopped itself or was lost.
            KeyboardInterrupt: Somebody wants it to stop.
        """
        progress, inquiry = TaskProgress(self.task), self._inquiry()
        is_complete, reason = True, "every sub-goal had its turn"
        try:
            self._move_gripper(self.task.gripper_at_start)
            while not progress.is_finished:
                self._pass(progress, inquiry)
        except PatienceLostError as lost:
            is_complete, reason = False, str(lost)
        finally:
            self.arm.stop()
        missed, is_dry_run = inquiry.missed_total, not self.is_moving_allowed
        return RunEnd(is_complete, reason, self._executed, missed, is_dry_run)

    def _pass(self, progress: TaskProgress, inquiry: Inquiry) -> None:
        """Look, ask, check, move, wait for the period's end."""
        record = StepRecord(self._executed, progress.goal_index)
        filtered = self._plan(record, inquiry)
        if filtered is None or record.act is None:
            self.on_step(record)
            return
        # The planner's own step: one that safety cut short at a wall is no arrival.
        planned_step_m = float(np.linalg.norm(record.act.actions[0, poses.POSITION]))
        is_over = progress.has_arrived(planned_step_m)
        if not is_over:
            self._move(record, filtered, inquiry.period_s)
            self._executed += 1
            is_over = progress.count_step()
        if is_over and progress.sub_goal.gripper_after != "hold":
            record.gripper = progress.sub_goal.gripper_after
            self._move_gripper(record.gripper)
        self.on_step(record)
        if is_over:
            progress.advance()

    def _plan(self, record: StepRecord, inquiry: Inquiry) -> FilteredAction | None:
        """Look, ask and check; None when nothing may be executed, the arm holding."""
        try:
            observation = self._look(record)
            record.act = inquiry.ask(observation)
        except (CameraError, NoPlanError) as error:
            record.problem = str(error)
            if isinstance(error, CameraError):
                inquiry.miss(record.problem)
                time.sleep(inquiry.period_s)
            return None
        age_s = time.monotonic() - observation.t_capture
        record.latency_ms = 1000 * age_s
        moved_m = (self.arm.state().pose - observation.state)[poses.POSITION]
        drift_m = float(np.linalg.norm(moved_m))
        asked = Asked(observation.session, observation.seq, observation.goal_index, age_s, drift_m)
        filtered = filter_plan(record.act, observation.state, asked, self.task.safety)
        record.filtered, record.problem = filtered, filtered.refusal
        if filtered.refusal is not None:
            inquiry.miss(filtered.refusal)
            return None
        inquiry.succeed()
        return filtered

    def _look(self, record: StepRecord) -> Observe:
        """Take the newest frame and, at the same instant, the state."""
        record.captured = self.camera.newest(_MAX_FRAME_AGE_S)
        record.state = self.arm.state()
        self._seq += 1
        return Observe(
            session=self.link.client.session,
            seq=self._seq,
            t_capture=record.captured.t_capture,
            frame=record.captured.frame,
            state=record.state.pose,
            goal_index=record.goal_index,
        )

    def _move(self, record: StepRecord, filtered: FilteredAction, period_s: float) -> None:
        """Start the motion, wait for the period's end and for the arm to rest."""
        path = None
        if self.is_moving_allowed and record.state is not None:
            path = record.state.pose[poses.POSITION], filtered.target[poses.POSITION]
            self.arm.move_to(filtered.target, period_s)
            record.is_executed = True
        self._watch(period_s, path)
        if self.task.gripper_from_plan:
            change = float(filtered.action[6])
            record.gripper = self._gripper_rule.follow(float(filtered.target[6]) - change, change)
            self._move_gripper(record.gripper)

    def _watch(self, period_s: float, path: tuple[Vector, Vector] | None) -> None:
        """Keep the conversation alive while the arm moves; cut the motion short in silence.

        An arm that leaves the straight `path` (start and target of the flange) ends the run: then
        its controller does something else than it was asked.

        A speed cap or a slow simulation may take the arm longer than the period. The model knows
        only arms that rest between two steps, so the next look waits, but not for ever.
        """
        end = time.monotonic() + period_s
        latest = end + _SETTLE_PERIODS * period_s
        is_holding = False
        while (now := time.monotonic()) < end or (now < latest and self.arm.is_moving()):
            self.link.client.listen(_POLL_S if now >= end else min(end - now, _POLL_S))
            if path is not None:
                self._check_path(*path)
            if not is_holding and self.link.client.silence_s() > period_s:
                logger.warning("the server is silent; the motion is cut short")
                self.arm.hold()
                is_holding = True

    def _check_path(self, start: Vector, target: Vector) -> None:
        away_m = deviation_m(self.arm.state().pose[poses.POSITION], start, target)
        if away_m > self.task.safety.max_deviation_m:
            raise ArmError(
                f"the arm is {100 * away_m:.0f} cm off the straight line to its target (allowed: "
                f"{100 * self.task.safety.max_deviation_m:.0f} cm) and has been stopped. Look at "
                "the arm; in simulation the machine may be too busy to keep up with real time"
            )

    def _move_gripper(self, action: GripperAction) -> None:
        """Open or close, and wait for it with the arm standing; "hold" is nothing to do."""
        if action == "hold" or not self.is_moving_allowed:
            return
        if action == "close":
            self.arm.grasp()
        else:
            self.arm.open_gripper()
        deadline = time.monotonic() + _GRIPPER_TIMEOUT_S
        while self.arm.is_gripper_busy() and time.monotonic() < deadline:
            self.link.client.listen(_POLL_S)

    def _inquiry(self) -> Inquiry:
        return Inquiry(
            link=self.link,
            period_s=self.link.client.control_period_s,
            max_age_s=self.task.safety.max_observation_age_s,
            max_missed=self.task.stop_after_missed,
            hold=self.arm.hold,
        )
