"""The control loop: look, ask, check, move, once per control period of the model.

Whatever the server does, the arm obeys this loop's own rules: a period without a usable plan ends in
a hold, several in a row end the run, a motion is cut short when the server falls silent meanwhile,
nothing is asked or executed while the session is paused, and however the loop is left, the arm is
stopped.

With `overlap` the plan for the next motion is made during the present one: the server is asked, with
the frame from before the motion and the action under way, what to do after it. With `chunk` several
actions of a plan are executed before the next look.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from robot_client.arms.arm import Arm
from robot_client.attendant import Operator, Unattended
from robot_client.axes import Axes
from robot_client.cameras.camera import Camera
from robot_client.errors import ReflexError
from robot_client.execution import Execution
from robot_client.inquiry import Inquiry, PatienceLostError
from robot_client.motion import Motion
from robot_client.ordered_arm import OrderedArm
from robot_client.outlook import Outlook
from robot_client.progress import GivenUpError, TaskProgress
from robot_client.records import Event, RunEnd, StepRecord
from robot_client.safety import EnergyWatch, FilteredAction
from robot_client.server_link import ServerLink
from robot_client.tasks import GripperAction, Task
from trajectories import poses

logger = logging.getLogger(__name__)

__all__ = ["ControlLoop", "LoopOptions", "RunEnd", "StepRecord"]


def _ignore(what: Event | StepRecord) -> None:
    del what


@dataclass(frozen=True)
class LoopOptions:
    """How a task is run, apart from what it is.

    Attributes:
        overlap: Plan the next motion during the present one.
        chunk: Actions of one plan that are executed before the next look.
        confirm_steps: Ask the operator before every motion, of the gripper, too.
        max_frame_age_s: An older frame is refused.
        gripper_timeout_s: A gripper command that takes longer ends the run.
        axes: Correction of the planner's axes for this camera; None for none.
    """

    overlap: bool = False
    chunk: int = 1
    confirm_steps: bool = False
    max_frame_age_s: float = 0.5
    gripper_timeout_s: float = 10.0
    axes: Axes | None = None

    def __post_init__(self) -> None:
        if self.overlap and self.chunk != 1:
            raise ValueError(f"overlap plans after every action, so chunk must be 1: {self.chunk}")
        if self.confirm_steps and self.chunk != 1:
            raise ValueError(f"confirming every step needs a chunk of 1: {self.chunk}")


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
        on_motion: Gets the same record once the arm has been told to move, while it still does.
        on_event: Gets what happens besides; must return quickly.
        operator: Asked before a recovery, and before each motion where `options` say so.
        options: How to run.
    """

    arm: Arm
    camera: Camera
    link: ServerLink
    task: Task
    is_moving_allowed: bool
    on_step: Callable[[StepRecord], None]
    on_event: Callable[[Event], None] = _ignore
    on_motion: Callable[[StepRecord], None] = _ignore
    operator: Operator = field(default_factory=Unattended)
    options: LoopOptions = field(default_factory=LoopOptions)

    def run(self) -> RunEnd:
        """Do the task; the arm is at rest when this returns or raises.

        Raises:
            ArmError: The arm stopped itself and was not recovered, or was lost.
            KeyboardInterrupt: Somebody wants it to stop.
        """
        self._begin()
        progress, is_success = self._progress, None
        is_complete, reason = True, "every sub-goal had its turn"
        try:
            self._execution.move_gripper(self.task.gripper_at_start)
            while not progress.is_finished:
                self._guarded_pass()
            is_success = self._judge()
        except (PatienceLostError, GivenUpError) as end:
            is_complete, reason = False, str(end)
        finally:
            self.arm.stop()
        return RunEnd(
            is_complete=is_complete,
            reason=reason,
            steps=self._execution.executed,
            missed=self._inquiry.missed_total,
            is_dry_run=not self.is_moving_allowed,
            is_success=is_success,
            retries=progress.retries,
        )

    def _begin(self) -> None:
        client, limits = self.link.client, self.task.safety
        self._inquiry = Inquiry(
            link=self.link,
            model=client.model,
            period_s=client.control_period_s,
            max_age_s=limits.max_observation_age_s,
            max_missed=self.task.stop_after_missed,
            restart_timeout_s=self.task.restart_timeout_s,
            hold=self.arm.hold,
            on_event=self.on_event,
        )
        self._motion = Motion(
            self.arm, self.camera, self._inquiry, limits, self.options.gripper_timeout_s
        )
        self._progress, self._energy = TaskProgress(self.task), EnergyWatch()
        self._outlook = Outlook(
            arm=self.arm,
            inquiry=self._inquiry,
            motion=self._motion,
            limits=limits,
            max_frame_age_s=self.options.max_frame_age_s,
            axes=self.options.axes,
        )
        self._execution = Execution(
            task=self.task,
            motion=self._motion,
            outlook=self._outlook,
            progress=self._progress,
            chunk=self.options.chunk,
            is_overlapping=self.options.overlap,
            is_moving_allowed=self.is_moving_allowed,
            may_move_gripper=self._may_move_gripper,
            on_step=self.on_step,
            on_motion=self.on_motion,
        )
        client.orders.body = OrderedArm(self.arm, self._outlook.forget, self.on_event)

    # --- reflexes, the end ------------------------------------------------------------------------

    def _guarded_pass(self) -> None:
        """One pass; an arm that stops itself goes on only with the operator's consent."""
        try:
            self._pass()
        except ReflexError as reflex:
            self._outlook.forget()
            self.on_event(Event("reflex", str(reflex)))
            question = f"{reflex}\nLook at the arm and at what it touches. Recover and go on?"
            if not self.operator.consents(question, self._inquiry.listen):
                raise
            self.arm.recover()
            self._motion.rest_since = time.monotonic()  # what was seen before shows another posture
            self.on_event(Event("recovered", "errors cleared with the operator's consent"))

    def _judge(self) -> bool | None:
        """The task's own check of its success; None where it has none."""
        success = self.task.success
        if success is None or not self.is_moving_allowed:
            return None
        if success.energy is None:
            return self.operator.consents("Has the task succeeded?", self._inquiry.listen)
        record = StepRecord(self._execution.executed, len(self.task.sub_goals) - 1)
        while self._outlook.plan(record) is None or record.act is None:
            self.on_step(record)
        self.on_step(record)
        text = f"energy at the end {record.act.energy_now:.3f}, needed {success.energy:.3f}"
        self.on_event(Event("judged", text, {"energy": record.act.energy_now}))
        return record.act.energy_now <= success.energy

    # --- one pass ---------------------------------------------------------------------------------

    def _pass(self) -> None:
        """Look, ask, check, move, wait for the period's end."""
        record = StepRecord(self._execution.executed, self._progress.goal_index)
        try:
            filtered = self._outlook.plan(record)
        except PatienceLostError as lost:
            record.problem = str(lost)
            self.on_step(record)
            raise
        if filtered is None or record.act is None:
            self.on_step(record)
            return
        self._energy = self._energy.note(record.act.energy_now)
        rising = self._energy.check(self.task.safety)
        if rising is not None and self.is_moving_allowed:
            record.problem = rising.text
            self.on_step(record)
            self._retry(rising.text)
            return
        # The planner's own step: one that safety cut short at a wall is no arrival.
        planned_step_m = float(np.linalg.norm(record.act.actions[0, poses.POSITION]))
        energy_now = record.act.energy_now
        if record.is_ahead and self._progress.seems_over(planned_step_m, energy_now):
            self.on_step(record)  # imagination alone is no arrival: look again
            return
        is_over = self._progress.is_over(planned_step_m, energy_now)
        if not is_over:
            if not self._is_confirmed(record, filtered):
                self.on_step(record)
                return
            is_over = self._execution.follow(record, record.act, filtered)
        self._end_pass(record, is_over=is_over)

    def _end_pass(self, record: StepRecord, *, is_over: bool) -> None:
        """Write the pass down; where the sub-goal is over, judge it and go on or back."""
        failure = self._progress.failure() if is_over and self.is_moving_allowed else None
        if is_over and failure is None and self._progress.sub_goal.gripper_after != "hold":
            record.gripper = self._execution.move_gripper(self._progress.sub_goal.gripper_after)
        self.on_step(record)
        if failure is not None:
            self._retry(failure)
        elif is_over:
            self._progress.advance()
            self._energy = EnergyWatch()
            self._outlook.forget()

    def _retry(self, failure: str) -> None:
        failed = self._progress.retry(failure)
        self._energy = EnergyWatch()
        self._outlook.forget()
        self.on_event(Event("retry", failure, {"sub_goal": failed.name}))
        self._execution.move_gripper(failed.gripper_on_retry)

    def _is_confirmed(self, record: StepRecord, filtered: FilteredAction) -> bool:
        """Ask the operator, where every step wants it; what he lets grow old is not executed."""
        if not self.options.confirm_steps or not self.is_moving_allowed:
            return True
        length_cm = 100 * float(np.linalg.norm(filtered.action[poses.POSITION]))
        turn_deg = float(np.degrees(np.linalg.norm(filtered.action[poses.ROTATION])))
        what = f"move {length_cm:.1f} cm"
        if turn_deg >= 1:
            what += f", turn {turn_deg:.0f} degrees"
        answer = self._ask(f"{what} (m), look again (l), end the run (e)?", "mle")
        if answer == "e":
            record.problem = "ended by the operator"
            self.on_step(record)
            raise PatienceLostError(record.problem)
        passed_over = "passed over by the operator" if answer == "l" else None
        record.problem = passed_over or self._outlook.staleness(record)
        return record.problem is None

    def _may_move_gripper(self, action: GripperAction) -> bool:
        """Ask the operator, where every motion wants it."""
        if not self.options.confirm_steps:
            return True
        return self._ask(f"{action} the gripper (g), leave it as it is (l)?", "gl") == "g"

    def _ask(self, question: str, keys: str) -> str:
        answer = self.operator.choose(question, keys, self._inquiry.listen)
        self.on_event(Event("operator", f"answered {answer}"))
        return answer
