"""The control loop against a scripted server: whatever the server does, the arm holds or stops."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from robot_client.arms.arm import ArmState
from robot_client.arms.dummy import START_POSE
from robot_client.cameras.camera import CapturedFrame
from robot_client.cameras.testcard import TestCard
from robot_client.errors import ArmError, StaleFrameError
from robot_client.protocol import ErrorReply, Observe
from robot_client.tasks import SubGoal, Task
from tests.robot_client.conftest import PERIOD_S, TASK, WatchedArm
from tests.robot_client.conftest import run_loop as run

Send = Callable[[bytes], None]


def test_the_arm_follows_the_plans_once_per_period(stand_in: Any) -> None:
    arm = WatchedArm()
    started = time.monotonic()
    end, records = run(stand_in, arm)
    assert end.is_complete
    assert (end.steps, end.missed) == (3, 0)
    np.testing.assert_allclose(
        arm.state().pose[:3], START_POSE[:3] + np.array([0.06, 0, 0]), atol=1e-6
    )
    assert 3 * PERIOD_S <= time.monotonic() - started < 30 * PERIOD_S
    assert [record.is_executed for record in records] == [True] * 3
    assert arm.names() == ["move", "move", "move", "stop"]


def test_each_observation_carries_frame_state_and_goal_of_its_moment(stand_in: Any) -> None:
    run(stand_in, WatchedArm())
    seqs = [observed.seq for observed in stand_in.observed]
    assert seqs == [1, 2, 3]
    xs = [observed.state[0] - START_POSE[0] for observed in stand_in.observed]
    np.testing.assert_allclose(xs, [0.0, 0.02, 0.04], atol=1e-6)
    assert all(observed.frame.shape == (256, 256, 3) for observed in stand_in.observed)


def test_a_dry_run_asks_but_never_moves(stand_in: Any) -> None:
    arm = WatchedArm()
    end, records = run(stand_in, arm, is_moving_allowed=False)
    assert end.is_complete
    assert len(stand_in.observed) == 3
    assert end.is_dry_run
    assert not any(record.is_executed for record in records)
    assert arm.names() == ["stop"]


def test_a_server_that_dies_leaves_the_arm_holding_within_a_period(stand_in: Any) -> None:
    died: list[float] = []

    def answer_once(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        if observe.seq == 2:
            died.append(time.monotonic())
            stand_in.die()

    stand_in.on_observe = answer_once
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "without a usable plan" in end.reason
    assert arm.time_of("hold") - died[0] < PERIOD_S + 5.0
    after = [name for name, when in arm.calls if when > died[0]]
    assert after.count("move") <= 1  # the one that was planned before
    assert arm.names()[-1] == "stop"


def test_a_silent_server_leads_to_a_hold_then_to_a_stop(stand_in: Any) -> None:
    asked: list[float] = []
    stand_in.on_observe = lambda observe, send: asked.append(time.monotonic())
    arm = WatchedArm()
    end, records = run(stand_in, arm)
    assert not end.is_complete
    assert (end.steps, end.missed) == (0, 3)
    assert arm.names() == ["hold", "hold", "hold", "stop"]
    assert arm.time_of("hold") - asked[0] < PERIOD_S + 1.0
    assert records == [] or records[-1].problem


def test_a_late_plan_is_waited_for_while_the_arm_holds(stand_in: Any) -> None:
    def late(observe: Observe, send: Send) -> None:
        time.sleep(1.5 * PERIOD_S if observe.seq == 1 else 0.0)
        stand_in.answer(observe, send)

    stand_in.on_observe = late
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert end.is_complete
    assert end.missed == 1
    assert arm.names()[:2] == ["hold", "move"]


def test_plans_for_older_observations_are_not_executed(stand_in: Any) -> None:
    def outdated(observe: Observe, send: Send) -> None:
        send(stand_in.act(observe, seq=observe.seq - 1).encode())

    stand_in.on_observe = outdated
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "move" not in arm.names()


def test_garbage_and_foreign_sessions_are_not_executed(stand_in: Any) -> None:
    def mislead(observe: Observe, send: Send) -> None:
        send(b"\x80")
        send(stand_in.act(observe, session="x").encode())

    stand_in.on_observe = mislead
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "move" not in arm.names()


def test_errors_of_the_server_are_recorded_and_end_the_run_in_the_end(stand_in: Any) -> None:
    error = ErrorReply("planner_failed", "out of memory")
    stand_in.on_observe = lambda observe, send: send(error.encode())
    arm = WatchedArm()
    end, records = run(stand_in, arm)
    assert not end.is_complete
    assert "out of memory" in end.reason
    assert "out of memory" in str(records[0].problem)
    assert "move" not in arm.names()


def test_an_action_too_long_is_clamped_before_the_arm_sees_it(stand_in: Any) -> None:
    stand_in.step = np.array([0, 0.5, 0, 0, 0, 0, 0], np.float64)
    arm = WatchedArm()
    _, records = run(stand_in, arm)
    filtered = records[0].filtered
    assert filtered is not None
    assert filtered.action[1] == pytest.approx(PERIOD_S * TASK.safety.max_speed_m_s)
    assert filtered.warnings


def test_a_sub_goal_ends_early_when_the_planner_has_nothing_left_to_do(stand_in: Any) -> None:
    stand_in.step = np.array([0.005, 0, 0, 0, 0, 0, 0], np.float64)
    task = Task(
        name="test",
        description="Grasp, then lift.",
        gripper_at_start="open",
        sub_goals=(
            SubGoal(name="grasp", max_steps=9, gripper_after="close"),
            SubGoal(name="lift", max_steps=9),
        ),
    )
    arm = WatchedArm()
    end, records = run(stand_in, arm, task)
    assert end.is_complete
    assert [observed.goal_index for observed in stand_in.observed] == [0, 0, 1, 1]
    assert [record.is_executed for record in records] == [True, False, True, False]
    assert arm.names() == ["open", "move", "grasp", "move", "stop"]
    assert arm.state().pose[6] == 1.0


def test_a_step_that_a_wall_cuts_short_is_no_arrival(stand_in: Any) -> None:
    stand_in.step = np.array([0.1, 0, 0, 0, 0, 0, 0], np.float64)
    x, high = float(START_POSE[0]), TASK.safety.workspace_high_m
    cell = TASK.safety.model_copy(update={"workspace_high_m": (x + 0.001, *high[1:])})
    end, records = run(stand_in, WatchedArm(), TASK.model_copy(update={"safety": cell}))
    assert (end.is_complete, end.steps) == (True, 3)
    assert all(record.is_executed for record in records)


def test_a_plan_from_where_the_arm_no_longer_stands_is_not_executed(stand_in: Any) -> None:
    def push(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            for pose in (arm._start, arm._target):
                pose[1] += 0.05
        stand_in.answer(observe, send)

    stand_in.on_observe = push
    arm = WatchedArm()
    end, records = run(stand_in, arm)
    assert "moved 5.0 cm" in str(records[0].problem)
    assert [record.is_executed for record in records] == [False, True, True, True]
    assert (end.is_complete, end.missed) == (True, 1)


def test_a_planned_gripper_motion_is_followed_when_the_task_says_so(stand_in: Any) -> None:
    stand_in.step = np.array([0.02, 0, 0, 0, 0, 0, 0.8], np.float64)
    arm = WatchedArm()
    run(stand_in, arm, TASK.model_copy(update={"gripper_from_plan": True}))
    assert arm.names() == ["move", "move", "grasp", "move", "stop"]


class BlindCamera(TestCard):
    def newest(self, max_age_s: float) -> CapturedFrame:
        raise StaleFrameError("the newest frame is 9 s old")


def test_a_stale_camera_means_hold_then_stop(stand_in: Any) -> None:
    arm = WatchedArm()
    end, records = run(stand_in, arm, camera=BlindCamera())
    assert not end.is_complete
    assert "9 s old" in end.reason
    assert arm.names() == ["hold", "hold", "hold", "stop"]
    assert stand_in.observed == []
    assert "9 s old" in str(records[0].problem)


class BrokenArm(WatchedArm):
    def state(self) -> ArmState:
        if "move" in self.names():
            raise ArmError("contact")
        return super().state()


def test_an_arm_that_fails_is_stopped_and_the_error_told(stand_in: Any) -> None:
    arm = BrokenArm()
    with pytest.raises(ArmError, match="contact"):
        run(stand_in, arm)
    assert arm.names()[-1] == "stop"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl+C interrupts, also where this was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_the_arm_even_while_waiting_for_the_server(stand_in: Any) -> None:
    def interrupt(observe: Observe, send: Send) -> None:
        import _thread

        _thread.interrupt_main()

    stand_in.on_observe = interrupt
    arm = WatchedArm()
    with pytest.raises(KeyboardInterrupt):
        run(stand_in, arm)
    assert arm.names()[-1] == "stop"


def test_a_restarted_server_gets_a_new_session_and_the_goals_again(stand_in: Any) -> None:
    def forget(observe: Observe, send: Send) -> None:
        if observe.session == "s1":
            stand_in.known_sessions.discard("s1")
            stand_in.known_sessions.add("other")
            send(ErrorReply("unknown_session", "s1 is not known", observe.seq).encode())
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = forget
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert {observed.session for observed in stand_in.observed} == {"s1", "s2"}
    assert threading.active_count() < 20


def test_a_server_that_forgot_the_greeting_is_greeted_again(stand_in: Any) -> None:
    def refuse_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            error = ErrorReply("unauthorised", "this connection's hello carried no token", 1)
            send(error.encode())
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = refuse_first
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert [hello.session for hello in stand_in.hellos] == ["s1", "s1"]


@pytest.mark.parametrize(
    ("served", "value", "told"),
    [
        ("control_period_s", 2 * PERIOD_S, "none, control period 0.4 s"),
        ("model", "finetuned", "finetuned, control period 0.2 s"),
    ],
)
def test_a_server_that_returns_with_another_model_is_not_followed(
    stand_in: Any, served: str, value: object, told: str
) -> None:
    def change(observe: Observe, send: Send) -> None:
        setattr(stand_in, served, value)
        send(ErrorReply("unknown_session", "restarted", observe.seq).encode())

    stand_in.on_observe = change
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert told in end.reason
    assert arm.names() == ["hold", "stop"]


def test_a_plan_of_a_server_that_was_replaced_since_the_question_is_not_followed(
    stand_in: Any,
) -> None:
    def change(observe: Observe, send: Send) -> None:
        stand_in.control_period_s = 2 * PERIOD_S
        send(stand_in.welcome(observe.session).encode())  # of a connection that ZMQ renewed
        stand_in.answer(observe, send)

    stand_in.on_observe = change
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "control period 0.4 s" in end.reason
    assert arm.names() == ["stop"]


class StrayingArm(WatchedArm):
    """Goes somewhere else than it was told."""

    def move_to(self, pose: np.ndarray, duration_s: float) -> None:
        super().move_to(pose + np.array([0, 0.3, 0, 0, 0, 0, 0]), duration_s)


def test_an_arm_that_leaves_its_path_is_stopped(stand_in: Any) -> None:
    arm = StrayingArm()
    with pytest.raises(ArmError, match="off the straight line"):
        run(stand_in, arm)
    assert arm.names()[-1] == "stop"
    assert arm.names().count("move") == 1
    assert arm.state().pose[1] < 0.25  # cut short on the way
