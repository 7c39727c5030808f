"""Doing what a plan says: start the motion, wait for its end, look whether the arm has arrived."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from robot_client.gripper_rule import GripperRule
from robot_client.inquiry import NoPlanError
from robot_client.motion import Arrival, Motion
from robot_client.outlook import Outlook
from robot_client.progress import TaskProgress
from robot_client.protocol import Act
from robot_client.records import StepRecord
from robot_client.safety import FilteredAction
from robot_client.tasks import GripperAction, Task


@dataclass(eq=False)
class Execution:
    """Executes the plans of one run.

    Attributes:
        task: What to do.
        motion: Moves the arm.
        outlook: Whose plans are followed.
        progress: Counts the steps.
        chunk: Actions of one plan that are executed before the next look.
        is_overlapping: The next motion is planned during the present one.
        is_moving_allowed: False for a dry run.
        may_move_gripper: Asked before every motion of the gripper.
        on_step: Gets the record of each further action of a chunk.
        on_motion: Gets the record of each motion as it begins.
        executed: Plans followed so far.
    """

    task: Task
    motion: Motion
    outlook: Outlook
    progress: TaskProgress
    chunk: int
    is_overlapping: bool
    is_moving_allowed: bool
    may_move_gripper: Callable[[GripperAction], bool]
    on_step: Callable[[StepRecord], None]
    on_motion: Callable[[StepRecord], None]
    executed: int = 0
    _gripper_rule: GripperRule = field(default_factory=GripperRule)

    def follow(self, record: StepRecord, act: Act, filtered: FilteredAction) -> bool:
        """Execute a plan's first action, and more where `chunk` says so; True when it was the last."""
        self.outlook.executes(act)
        is_over = self._step(record, filtered)
        for planned in act.actions[1 : self.chunk]:
            target = filtered.target if self.is_moving_allowed else None
            if is_over or not self.outlook.may_go_on(record, target):
                break
            more = StepRecord(self.executed, record.goal_index, act=act)
            filtered = self.outlook.filter_more(more, planned)
            if filtered.refusal is not None:
                self.on_step(more)
                break  # what comes after it was planned from where it would have led
            is_over = self._step(more, filtered)
            self.on_step(more)
        return is_over

    def move_gripper(self, action: GripperAction) -> GripperAction:
        """Move the gripper, once the session is neither lost nor paused; in a dry run nothing happens.

        Returns:
            What was asked for; "hold" where it was not allowed.
        """
        if not self.is_moving_allowed or action == "hold":
            return action
        if not self.may_move_gripper(action):
            return "hold"
        inquiry = self.motion.inquiry
        while inquiry.lost is not None or inquiry.link.client.orders.state != "running":
            with contextlib.suppress(NoPlanError):  # it says that a lost server is back: wait on
                inquiry.wait_while_paused()
        self.motion.move_gripper(action)
        return action

    def _step(self, record: StepRecord, filtered: FilteredAction) -> bool:
        """Execute one action; True when the sub-goal ends with it."""
        arrival = self._move(record, filtered)
        record.left_m, record.cut_short = arrival.left_m, arrival.reason
        if not arrival.is_reached:
            self.outlook.forget()  # what was planned for after it began somewhere else
        elif self.task.gripper_from_plan and self.outlook.is_following:
            change = float(filtered.action[6])
            wanted = self._gripper_rule.follow(float(filtered.target[6]) - change, change)
            record.gripper = self.move_gripper(wanted)
        self.executed += 1
        return self.progress.count_step(is_reached=arrival.is_reached)

    def _move(self, record: StepRecord, filtered: FilteredAction) -> Arrival:
        """Start the motion, ask for what comes after it, wait for the period's end and for rest."""
        path, period_s = None, self.motion.inquiry.period_s
        started = time.monotonic()
        if self.is_moving_allowed and record.state is not None:
            path = record.state.pose, filtered.target
            self.motion.arm.move_to(filtered.target, period_s)
            record.is_executed = True
        record.timings_ms["command"] = 1e3 * (time.monotonic() - started)
        if self.is_overlapping and record.is_executed and record.captured is not None:
            self.outlook.ask_ahead(record, filtered)
        self.on_motion(record)
        return self.motion.watch(period_s, path)
