"""How a task is run: overlapped, in chunks, step by step, with retries; and what ends it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robot_client.arms.dummy import START_POSE
from robot_client.attendant import Unattended
from robot_client.axes import Axes, turn_about_z
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import GripperStuckError, ReflexError
from robot_client.loop import LoopOptions
from robot_client.protocol import Observe, Pause, Resume
from robot_client.records import Event
from robot_client.tasks import SubGoal, Success, Task
from tests.robot_client.conftest import PERIOD_S, TASK, WatchedArm
from tests.robot_client.conftest import run_loop as run

Send = Callable[[bytes], None]


class Scripted(Unattended):
    """Gives prepared answers; notes the questions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
        self.questions.append(question)
        while_waiting(0.05)
        return bool(self.answers.pop(0))

    def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
        self.questions.append(question)
        while_waiting(0.05)
        return str(self.answers.pop(0))


def test_with_overlap_the_next_plan_is_asked_for_while_the_arm_moves(stand_in: Any) -> None:
    log: list[str] = []

    class Awaiting(WatchedArm):
        """Comes to rest only after the next question, which a loop without overlap asks too late."""

        def move_to(self, pose: np.ndarray, duration_s: float) -> None:
            log.append("move")
            super().move_to(pose, duration_s)

        def is_moving(self) -> bool:
            if super().is_moving() or log.count("ask") <= log.count("move"):
                return True
            if log[-1] != "rest":
                log.append("rest")
            return False

    def answer(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        log.append("ask")

    arm = Awaiting()
    stand_in.control_period_s = 1.0  # the loop waits a few of them for rest
    stand_in.on_observe = answer
    end, records = run(stand_in, arm, options=LoopOptions(overlap=True))
    assert (end.is_complete, end.steps, end.missed) == (True, 3, 0)
    np.testing.assert_allclose(arm.state().pose[0], START_POSE[0] + 0.06, atol=1e-6)
    is_ahead = [observe.committed is not None for observe in stand_in.observed]
    assert is_ahead == [False, True, True, True]
    assert log == ["ask", *3 * ["move", "ask", "rest"]]
    second = stand_in.observed[1]
    np.testing.assert_allclose(second.committed, records[0].filtered.action[None])  # type: ignore[union-attr]
    np.testing.assert_allclose(second.state, stand_in.observed[0].state)


def test_with_overlap_an_arm_that_did_not_arrive_does_not_follow_the_plan(stand_in: Any) -> None:
    stand_in.step = np.array([0.06, 0, 0, 0, 0, 0, 0], np.float64)
    end, records = run(stand_in, Short(1), options=LoopOptions(overlap=True))
    assert records[0].cut_short is not None
    assert records[0].left_m == pytest.approx(0.05, abs=1e-3)
    assert [record.is_ahead for record in records[:3]] == [False, False, True]
    assert end.is_complete


def test_with_overlap_an_imagined_arrival_is_looked_at_before_it_counts(stand_in: Any) -> None:
    def small_ahead(observe: Observe, send: Send) -> None:
        step = 0.0 if observe.committed is not None else 1.0
        send(stand_in.act(observe, actions=step * stand_in.step[None]).encode())

    stand_in.on_observe = small_ahead
    end, records = run(stand_in, WatchedArm(), options=LoopOptions(overlap=True))
    assert (end.is_complete, end.steps) == (True, 3)
    assert [record.is_executed for record in records] == [True, False] * 2 + [True]


def test_overlap_and_chunks_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="chunk must be 1"):
        LoopOptions(overlap=True, chunk=2)


def test_a_chunk_of_actions_is_executed_from_one_look(stand_in: Any) -> None:
    def three(observe: Observe, send: Send) -> None:
        actions = np.tile(stand_in.step, (3, 1))
        send(stand_in.act(observe, actions=actions, predicted_states=actions).encode())

    stand_in.on_observe = three
    arm = WatchedArm()
    task = TASK.model_copy(update={"sub_goals": (SubGoal(name="a", max_steps=5),)})
    end, records = run(stand_in, arm, task, options=LoopOptions(chunk=2))
    assert (end.is_complete, end.steps) == (True, 5)
    assert len(stand_in.observed) == 3
    assert arm.names() == ["move"] * 5 + ["stop"]
    assert sum(record.is_executed for record in records) == 5


def test_the_rest_of_a_chunk_is_not_executed_once_the_server_falls_silent(stand_in: Any) -> None:
    def last_words(observe: Observe, send: Send) -> None:
        actions = np.tile(stand_in.step, (5, 1))
        send(stand_in.act(observe, actions=actions, predicted_states=actions).encode())
        stand_in._handle = lambda peer, message: None  # no pong either

    stand_in.on_observe = last_words
    arm = WatchedArm()
    task = TASK.model_copy(update={"sub_goals": (SubGoal(name="a", max_steps=5),)})
    end, _ = run(stand_in, arm, task, options=LoopOptions(chunk=5))
    assert not end.is_complete
    # Silence is known for one as soon as it has lasted a period, which a second motion may begin before.
    assert 1 <= arm.names().count("move") <= 2


def test_the_rest_of_a_chunk_is_void_after_a_pause_and_resume(stand_in: Any) -> None:
    def interrupted(observe: Observe, send: Send) -> None:
        actions = np.tile(stand_in.step, (3, 1))
        send(stand_in.act(observe, actions=actions, predicted_states=actions).encode())
        if observe.seq == 1:
            stand_in.push(Pause("s1", 1))
            stand_in.push(Resume("s1", 2))

    stand_in.on_observe = interrupted
    arm = WatchedArm()
    end, _ = run(stand_in, arm, options=LoopOptions(chunk=3))
    assert end.is_complete
    assert len(stand_in.observed) >= 2


class Short(WatchedArm):
    """Ends its first motions 5 cm short of the target."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def move_to(self, pose: np.ndarray, duration_s: float) -> None:
        short = pose.copy()
        short[0] -= 0.05 if self.names().count("move") < self.times else 0.0
        super().move_to(short, duration_s)


def test_an_arm_that_did_not_arrive_ends_its_chunk(stand_in: Any) -> None:
    def three(observe: Observe, send: Send) -> None:
        actions = np.tile(stand_in.step, (3, 1))
        send(stand_in.act(observe, actions=actions, predicted_states=actions).encode())

    stand_in.on_observe = three
    end, _ = run(stand_in, Short(2), options=LoopOptions(chunk=3))
    assert (end.is_complete, end.steps) == (True, 3)
    assert len(stand_in.observed) == 3  # one look for every action


def closing_at_the_end(**changes: Any) -> Task:
    goals = (SubGoal(name="a", max_steps=1, gripper_after="close", **changes),)
    return TASK.model_copy(update={"sub_goals": goals})


def test_the_gripper_waits_for_a_motion_that_arrives(stand_in: Any) -> None:
    arm = Short(2)
    end, records = run(stand_in, arm, closing_at_the_end())
    assert (end.is_complete, end.steps) == (True, 3)
    assert arm.names() == ["move", "move", "move", "grasp", "stop"]
    assert [record.cut_short is None for record in records] == [False, False, True]
    assert records[0].left_m == pytest.approx(0.05, abs=1e-3)
    assert [record.gripper for record in records] == ["hold", "hold", "close"]


def test_a_sub_goal_without_an_arrival_fails_and_the_gripper_stays(stand_in: Any) -> None:
    arm = Short(99)
    end, _ = run(stand_in, arm, closing_at_the_end())
    assert not end.is_complete
    assert "last 4 motions of sub-goal a ended short" in end.reason
    assert "grasp" not in arm.names()


def test_a_motion_that_an_order_cuts_short_is_made_up_for_before_the_gripper_closes(
    stand_in: Any,
) -> None:
    def pause_in_the_motion(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        if observe.seq == 1:
            threading.Timer(0.3 * PERIOD_S, lambda: stand_in.push(Pause("s1", 1))).start()
            threading.Timer(4 * PERIOD_S, lambda: stand_in.push(Resume("s1", 2))).start()

    stand_in.step = np.array([0.1, 0, 0, 0, 0, 0, 0], np.float64)
    stand_in.on_observe = pause_in_the_motion
    arm, events = WatchedArm(), list[Event]()
    end, records = run(stand_in, arm, closing_at_the_end(), on_event=events.append)
    assert end.is_complete
    assert "order" in str(records[0].cut_short)
    assert "cut short" in [event.kind for event in events]
    assert arm.names() == ["move", "hold", "move", "grasp", "stop"]


def test_the_gripper_does_not_move_while_the_session_is_paused(stand_in: Any) -> None:
    def pause(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        if observe.goal_index == 0:
            stand_in.push(Pause("s1", 1))
            threading.Timer(5 * PERIOD_S, resume).start()

    def resume() -> None:
        resumed.append(time.monotonic())
        stand_in.push(Resume("s1", 2))

    resumed: list[float] = []
    stand_in.on_observe = pause
    goals = (SubGoal(name="a", max_steps=1, gripper_after="close"), SubGoal(name="b", max_steps=1))
    arm = WatchedArm()
    end, _ = run(stand_in, arm, TASK.model_copy(update={"sub_goals": goals}))
    assert end.is_complete
    assert arm.time_of("grasp") > resumed[0]


def test_the_operators_key_lets_each_step_pass_or_not(stand_in: Any) -> None:
    arm, operator = WatchedArm(), Scripted("m", "l", "m", "e")
    end, records = run(stand_in, arm, operator=operator, options=LoopOptions(confirm_steps=True))
    assert not end.is_complete
    assert "operator" in end.reason
    assert [record.is_executed for record in records] == [True, False, True, False]
    assert arm.names() == ["move", "move", "stop"]
    assert "2.0 cm" in operator.questions[0]


def test_the_operator_is_asked_before_every_motion_of_the_gripper_and_told_of_turns(
    stand_in: Any,
) -> None:
    stand_in.step = np.array([0.013, 0, 0, 0.2, 0.2, 0.2, 0])
    goals = (SubGoal(name="a", max_steps=1, gripper_after="open"),)
    task = TASK.model_copy(update={"sub_goals": goals, "gripper_at_start": "close"})
    arm, operator = WatchedArm(), Scripted("l", "m", "g")
    options = LoopOptions(confirm_steps=True)
    end, records = run(stand_in, arm, task, operator=operator, options=options)
    assert end.is_complete
    assert arm.names() == ["move", "open", "stop"]
    assert records[-1].gripper == "open"
    for question, words in zip(operator.questions, ("close", "degrees", "open"), strict=True):
        assert words in question
    with pytest.raises(ValueError, match="chunk of 1"):
        LoopOptions(confirm_steps=True, chunk=2)


def test_a_step_that_the_operator_lets_grow_old_is_looked_at_again(stand_in: Any) -> None:
    class Slow(Scripted):
        def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
            while_waiting(0.7 if not self.questions else 0.0)
            return super().choose(question, keys, while_waiting)

    safety = TASK.safety.model_copy(update={"max_observation_age_s": 0.6})
    task = TASK.model_copy(update={"safety": safety})
    arm = WatchedArm()
    options = LoopOptions(confirm_steps=True)
    end, records = run(stand_in, arm, task, operator=Slow(*"mmmm"), options=options)
    assert "old" in str(records[0].problem)
    assert (end.is_complete, end.steps) == (True, 3)


def test_nobody_there_means_no_step_without_a_key(stand_in: Any) -> None:
    arm = WatchedArm()
    end, _ = run(stand_in, arm, options=LoopOptions(confirm_steps=True))
    assert not end.is_complete
    assert "move" not in arm.names()


def test_axes_turn_every_action_and_the_raw_one_is_kept(stand_in: Any) -> None:
    quarter = Axes(turn_about_z(np.pi / 2), np.pi / 2, 0.0, 0.0, 0.0, 4)
    arm = WatchedArm()
    _, records = run(stand_in, arm, options=LoopOptions(axes=quarter))
    np.testing.assert_allclose(
        arm.state().pose[:2], START_POSE[:2] + np.array([0, 0.06]), atol=1e-6
    )
    act = records[0].act
    assert act is not None
    np.testing.assert_allclose(act.actions[0, :3], [0.02, 0, 0])


class Reflexive(WatchedArm):
    """Stops itself at the second motion, once."""

    def __init__(self) -> None:
        super().__init__()
        self.recovered = 0

    def move_to(self, pose: np.ndarray, duration_s: float) -> None:
        if self.names().count("move") == 1 and not self.recovered:
            raise ReflexError("the arm stopped itself: cartesian_reflex")
        super().move_to(pose, duration_s)

    def recover(self) -> None:
        self.recovered += 1


def test_an_arm_that_stopped_itself_goes_on_only_with_consent(stand_in: Any) -> None:
    arm, operator, events = Reflexive(), Scripted(True), list[Event]()
    end, _ = run(stand_in, arm, operator=operator, on_event=events.append)
    assert (end.is_complete, end.steps) == (True, 3)
    assert arm.recovered == 1
    assert "cartesian_reflex" in operator.questions[0]
    assert [event.kind for event in events] == ["reflex", "recovered"]


@pytest.mark.parametrize("operator", [Scripted(False), Unattended()])
def test_without_consent_a_reflex_ends_the_run(stand_in: Any, operator: Any) -> None:
    arm = Reflexive()
    with pytest.raises(ReflexError):
        run(stand_in, arm, operator=operator)
    assert arm.recovered == 0
    assert arm.names()[-1] == "stop"


class StuckHand(WatchedArm):
    def is_gripper_busy(self) -> bool:
        return "grasp" in self.names()


def test_a_gripper_that_is_stuck_ends_the_run_with_the_arm_stopped(stand_in: Any) -> None:
    goals = (SubGoal(name="a", max_steps=1, gripper_after="close"), SubGoal(name="b", max_steps=1))
    task = TASK.model_copy(update={"sub_goals": goals})
    arm = StuckHand()
    with pytest.raises(GripperStuckError, match="did not close"):
        run(stand_in, arm, task, options=LoopOptions(gripper_timeout_s=0.3))
    assert arm.names() == ["move", "grasp", "stop"]


class PaintedCamera(TestCard):
    """Shows what it is told from some frame on."""

    def __init__(self, painted: np.ndarray | None) -> None:
        super().__init__()
        self.painted = painted
        self.kept: np.ndarray | None = None

    def newest(self, max_age_s: float) -> CapturedFrame:
        captured = super().newest(max_age_s)
        if self._count < 2:
            self.kept = captured.frame
            return captured
        frame = self.kept if self.painted is None else self.painted
        assert frame is not None
        return CapturedFrame(frame, captured.t_capture)


@pytest.mark.parametrize(
    ("painted", "reason"),
    [
        (np.zeros((256, 256, 3), np.uint8), "empty"),
        (np.full((256, 256, 3), 255, np.uint8), "empty"),
        (None, "frozen"),
    ],
    ids=["black", "white", "frozen"],
)
def test_a_camera_that_goes_blind_leads_to_a_hold_and_a_stop(
    stand_in: Any, painted: np.ndarray | None, reason: str
) -> None:
    stand_in.step = np.array([0.03, 0, 0, 0, 0, 0, 0], np.float64)
    arm = WatchedArm()
    end, records = run(stand_in, arm, camera=PaintedCamera(painted))
    assert not end.is_complete
    assert reason in end.reason
    assert arm.names() == ["move", "hold", "hold", "hold", "stop"]
    assert len(stand_in.observed) == 1
    assert records[-1].problem == end.reason.split("last: ")[1] or reason in str(
        records[-1].problem
    )


@pytest.mark.parametrize(
    ("step", "moves"), [((0.019, 0, 0, 0, 0, 0, 0), 2), ((0.005, 0, 0, 0, 0, 0.2, 0), 1)]
)
def test_a_frozen_picture_is_noticed_over_many_small_steps_and_turns(
    stand_in: Any, step: tuple[float, ...], moves: int
) -> None:
    stand_in.step = np.array(step)
    arm, camera = WatchedArm(), PaintedCamera(None)
    camera.newest(1.0)  # the next one is kept
    task = TASK.model_copy(update={"sub_goals": (SubGoal(name="a", max_steps=18),)})
    end, _ = run(stand_in, arm, task, camera=camera)
    assert "frozen" in end.reason
    assert arm.names().count("move") == moves


def test_a_frame_from_before_the_arm_came_to_rest_is_not_used(stand_in: Any) -> None:
    period_s = 0.3

    class Slow(TestCard):
        """After a motion it still shows the frame from before, for a while."""

        def __init__(self) -> None:
            super().__init__()
            self.last = super().newest(0.0)

        def newest(self, max_age_s: float) -> CapturedFrame:
            if time.monotonic() - self.last.t_capture > 1.5 * period_s:
                self.last = super().newest(max_age_s)
            return self.last

    stand_in.control_period_s = period_s
    stand_in.step[0] = 0.015  # too little for a frame that stays the same to be suspicious
    arm = WatchedArm()
    task = TASK.model_copy(update={"stop_after_missed": 50})
    end, records = run(stand_in, arm, task, camera=Slow())
    assert end.is_complete
    moves = [when for name, when in arm.calls if name == "move"]
    executed = [record for record in records if record.is_executed]
    assert len(executed) == len(moves) == 3
    for record, moved in zip(executed[1:], moves[:-1], strict=True):
        assert record.captured is not None
        assert record.captured.t_capture >= moved + period_s


def test_the_pass_that_loses_patience_is_handed_out_too(stand_in: Any) -> None:
    stand_in.on_observe = lambda observe, send: None
    end, records = run(stand_in, WatchedArm())
    assert records[-1].problem is not None
    assert records[-1].problem == end.reason


def with_energies(stand_in: Any, *energies: float) -> None:
    left = list(energies)

    def answer(observe: Observe, send: Send) -> None:
        energy = left.pop(0) if len(left) > 1 else left[0]
        send(stand_in.act(observe, energy_now=energy).encode())

    stand_in.on_observe = answer


def judged(**changes: Any) -> Task:
    sub_goal = SubGoal(name="a", max_steps=2, done_energy=0.3, **changes)
    return TASK.model_copy(update={"sub_goals": (sub_goal,)})


def test_a_sub_goal_is_over_when_its_energy_is_reached(stand_in: Any) -> None:
    with_energies(stand_in, 0.5, 0.29)
    end, records = run(stand_in, WatchedArm(), judged())
    assert (end.is_complete, end.steps) == (True, 1)
    assert not records[-1].is_executed


def test_a_sub_goal_that_is_not_reached_is_begun_again_with_its_gripper_policy(
    stand_in: Any,
) -> None:
    with_energies(stand_in, 0.5, 0.5, 0.5, 0.5, 0.2)
    arm, events = WatchedArm(), list[Event]()
    task = judged(retries=1, gripper_on_retry="open")
    end, _ = run(stand_in, arm, task, on_event=events.append)
    assert (end.is_complete, end.retries) == (True, 1)
    assert arm.names() == ["move", "move", "open", "move", "stop"]
    assert "retry" in [event.kind for event in events]


def test_a_sub_goal_without_retries_left_ends_the_run(stand_in: Any) -> None:
    with_energies(stand_in, 0.5)
    end, _ = run(stand_in, WatchedArm(), judged(retries=1))
    assert not end.is_complete
    assert "needs 0.300" in end.reason
    assert "2 attempts" in end.reason


def test_a_dry_run_judges_nothing(stand_in: Any) -> None:
    with_energies(stand_in, 0.5)
    end, _ = run(stand_in, WatchedArm(), judged(), is_moving_allowed=False)
    assert end.is_complete
    assert end.is_success is None


def test_an_energy_that_only_rises_ends_the_attempt(stand_in: Any) -> None:
    with_energies(stand_in, *(0.3 + 0.01 * index for index in range(20)))
    safety = TASK.safety.model_copy(update={"max_energy_rises": 3})
    goals = (SubGoal(name="a", max_steps=12),)
    task = TASK.model_copy(update={"safety": safety, "sub_goals": goals})
    end, records = run(stand_in, WatchedArm(), task)
    assert not end.is_complete
    assert "risen 3 plans" in end.reason
    assert end.steps == 3
    assert "risen" in str(records[-1].problem)


@pytest.mark.parametrize(("energy", "is_success"), [(0.2, True), (0.5, False)])
def test_a_task_judges_itself_by_the_energy_at_the_end(
    stand_in: Any, energy: float, is_success: bool
) -> None:
    with_energies(stand_in, 0.5, 0.5, 0.5, energy)
    task = TASK.model_copy(update={"success": Success(by="energy", energy=0.3)})
    end, _ = run(stand_in, WatchedArm(), task)
    assert end.is_complete
    assert end.is_success is is_success


def test_a_task_may_be_judged_by_the_operator(stand_in: Any) -> None:
    task = TASK.model_copy(update={"success": Success(by="operator")})
    end, _ = run(stand_in, WatchedArm(), task, operator=Scripted(True))
    assert end.is_success is True


def test_a_hand_that_holds_something_high_up_does_not_open(stand_in: Any) -> None:
    class Holding(WatchedArm):
        def state(self) -> Any:
            state = super().state()
            return type(state)(state.pose, state.t, None, True)

    safety = TASK.safety.model_copy(update={"max_open_height_m": 0.05})
    goals = (SubGoal(name="a", max_steps=1, gripper_after="open"),)
    task = TASK.model_copy(update={"safety": safety, "sub_goals": goals})
    arm, events = Holding(), list[Event]()
    end, _ = run(stand_in, arm, task, on_event=events.append)
    assert end.is_complete
    assert "open" not in arm.names()
    assert [event.values["rule"] for event in events if event.kind == "refused"] == [
        "open in the air"
    ]
