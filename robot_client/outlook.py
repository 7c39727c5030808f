"""From a look at the world to an action that may be executed: look, ask, check."""

import time
from dataclasses import dataclass, field

from robot_client.arms.arm import Arm
from robot_client.axes import Axes
from robot_client.cameras.sight import Sight
from robot_client.errors import CameraError
from robot_client.inquiry import Inquiry, NoPlanError
from robot_client.motion import Motion, distance_m
from robot_client.protocol import Act, Observe
from robot_client.records import StepRecord
from robot_client.safety import (
    Asked,
    FilteredAction,
    SafetyLimits,
    check_reply,
    filter_action,
    filter_plan,
)
from robot_client.safety.geometry import Vector


@dataclass(frozen=True, eq=False)
class _Question:
    """What was asked, and where the flange is expected to be when its plan is followed."""

    observation: Observe
    expected: Vector
    t_asked: float


@dataclass
class Outlook:
    """Looks and asks for one run.

    Attributes:
        arm: Connected.
        inquiry: Of this run.
        motion: Knows since when the arm rests.
        limits: What every plan is held against.
        max_frame_age_s: An older frame is refused.
        axes: Correction of the planner's axes; None for none.
        is_following: A plan is being followed, and nothing has made it void.
    """

    arm: Arm
    inquiry: Inquiry
    motion: Motion
    limits: SafetyLimits
    max_frame_age_s: float
    axes: Axes | None
    _sight: Sight = field(default_factory=Sight)
    _ahead: _Question | None = None
    _seq: int = 0
    _executed_seq: int = -1
    is_following: bool = False

    def plan(self, record: StepRecord) -> FilteredAction | None:
        """Look, ask and check; None when nothing may be executed, the arm holding.

        Args:
            record: Of this pass, with the sub-goal under way; filled in.

        Raises:
            PatienceLostError: Too many periods in a row without a usable plan.
        """
        try:
            self.inquiry.wait_while_paused()
            started = time.monotonic()
            observation = self._look(record)
            looked = time.monotonic()
            question, record.act = self._ask(observation)
            record.is_ahead = question.observation is not observation
        except NoPlanError as error:
            self.forget()
            record.problem = str(error)
            return None
        except CameraError as error:
            self.forget()
            record.problem = str(error)
            self.inquiry.miss(record.problem)
            self.inquiry.listen(self.inquiry.period_s)
            return None
        answered = time.monotonic()
        filtered = self._check(record, record.act, question)
        record.timings_ms = {
            "look": 1e3 * (looked - started),
            "ask": 1e3 * (answered - looked),
            "filter": 1e3 * (time.monotonic() - answered),
        }
        record.filtered, record.problem = filtered, filtered.refusal
        if filtered.refusal is not None:
            self.inquiry.miss(filtered.refusal)
            return None
        self.inquiry.succeed()
        return filtered

    def ask_ahead(self, record: StepRecord, filtered: FilteredAction) -> None:
        """Ask, while the arm executes `filtered`, for the plan after it.

        The frame is the one from before the motion: the server imagines the action under way and
        plans from where it leads.
        """
        observation = self._observe(record, filtered.action)
        self._ahead = _Question(observation, filtered.target, time.monotonic())
        self.inquiry.begin(observation)

    def forget(self) -> None:
        """A plan that is being made for the next motion is void, and so is the rest of the present one."""
        self._ahead, self.is_following = None, False

    def executes(self, act: Act) -> None:
        """Note that a plan is being followed; the same one will not be a second time."""
        self._executed_seq, self.is_following = act.seq, True

    def may_go_on(self, record: StepRecord, target: Vector | None) -> bool:
        """Whether one more action of the plan in `record` may follow without another look.

        Args:
            record: Of the pass that the plan was made in.
            target: Flange pose [7] that the action before it led to; None in a dry run.
        """
        client, captured = self.inquiry.link.client, record.captured
        if not self.is_following or client.orders.state != "running" or captured is None:
            return False
        is_silent = client.silence_s() > self.inquiry.period_s
        age_s = time.monotonic() - captured.t_capture
        if is_silent or age_s > self.limits.max_observation_age_s:
            return False
        return (
            target is None or distance_m(self.arm.state().pose, target) <= self.limits.max_drift_m
        )

    def filter_more(self, record: StepRecord, planned: Vector) -> FilteredAction:
        """Clamp one more action of a plan, from where the arm is now."""
        record.state = self.arm.state()
        action = planned if self.axes is None else self.axes.turn(planned)
        record.filtered = filter_action(
            action,
            record.state.pose,
            self.limits,
            period_s=self.inquiry.period_s,
            joints_rad=record.state.joints_rad,
        )
        record.problem = record.filtered.refusal
        return record.filtered

    def staleness(self, record: StepRecord) -> str | None:
        """Why a plan that was good when it came may not be followed any more; None where it may."""
        act, state, captured = record.act, record.state, record.captured
        if act is None or state is None or captured is None:
            return "there is no plan"
        if (session := self.inquiry.link.client.orders.state) != "running":
            return f"the session is {session}"
        if self.inquiry.lost is not None:
            return f"the session is lost: {self.inquiry.lost.code}"
        age_s = time.monotonic() - captured.t_capture
        drift_m = distance_m(self.arm.state().pose, state.pose)
        asked = Asked(act.session, act.seq, act.goal_index, age_s, drift_m)
        found = check_reply(act, asked, self.limits)
        return None if found is None else found.text

    def _look(self, record: StepRecord) -> Observe:
        """Take a frame that shows the arm at rest, and the state at the same time."""
        record.captured = self.motion.fresh_frame(self.max_frame_age_s)
        record.state = self.arm.state()
        self._sight.check(record.captured, record.state.pose)
        return self._observe(record, None)

    def _observe(self, record: StepRecord, committed: Vector | None) -> Observe:
        if record.captured is None or record.state is None:
            raise NoPlanError("nothing was seen")
        self._seq += 1
        return Observe(
            session=self.inquiry.link.client.session,
            seq=self._seq,
            t_capture=record.captured.t_capture,
            frame=record.captured.frame,
            state=record.state.pose,
            goal_index=record.goal_index,
            committed=None if committed is None else committed[None],
        )

    def _ask(self, observation: Observe) -> tuple[_Question, Act]:
        """The plan for now: the one asked for during the last motion, or one for this observation."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.observation.goal_index == observation.goal_index:
            due = max(ahead.t_asked + self.inquiry.period_s, time.monotonic())
            return ahead, self.inquiry.finish(due)
        question = _Question(observation, observation.state, time.monotonic())
        return question, self.inquiry.ask(observation)

    def _check(self, record: StepRecord, act: Act, question: _Question) -> FilteredAction:
        """Hold the plan against the question and the arm, then clamp its first action."""
        observation, state = question.observation, record.state or self.arm.state()
        age_s = time.monotonic() - observation.t_capture
        record.latency_ms = 1e3 * age_s
        asked = Asked(
            session=observation.session,
            seq=observation.seq,
            goal_index=record.goal_index,
            age_s=age_s,
            drift_m=distance_m(self.arm.state().pose, question.expected),
            executed_seq=self._executed_seq,
        )
        return filter_plan(
            act if self.axes is None else self.axes.correct(act),
            state.pose,
            asked,
            self.limits,
            period_s=self.inquiry.period_s,
            joints_rad=state.joints_rad,
        )
