"""A session that is ended, taken or forgotten while the arm moves: the arm holds, and what was planned is void."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robot_client.loop import LoopOptions
from robot_client.protocol import ErrorReply, Observe
from robot_client.records import Event
from robot_client.tasks import SubGoal
from tests.robot_client.conftest import PERIOD_S, TASK, WatchedArm
from tests.robot_client.conftest import run_loop as run

Send = Callable[[bytes], None]

LONG_TASK = TASK.model_copy(update={"sub_goals": (SubGoal(name="a", max_steps=8),)})
WAYS = (LoopOptions(chunk=8), LoopOptions(overlap=True))
STEP_M = 0.05
FRAME = np.zeros((16, 16, 3), np.uint8)


def lose_in_first_motion(stand_in: Any, code: str) -> None:
    """Answer with plans of eight actions, and say that the session is lost while the first is executed."""
    stand_in.step = np.array([0, STEP_M, 0, 0, 0, 0, 0], np.float64)
    error = ErrorReply(code, "somebody else did it")

    def answer(observe: Observe, send: Send) -> None:
        plan = np.tile(stand_in.step, (8, 1))
        send(stand_in.act(observe, actions=plan, predicted_states=plan).encode())
        if observe.seq == 1:
            threading.Timer(0.3 * PERIOD_S, stand_in.push, [error]).start()

    stand_in.on_observe = answer


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("code", ["session_taken", "session_ended", "forbidden"])
def test_a_session_that_is_over_ends_the_run_in_the_middle_of_a_motion(
    stand_in: Any, code: str, options: LoopOptions
) -> None:
    lose_in_first_motion(stand_in, code)
    arm, events = WatchedArm(), list[Event]()
    end, _ = run(stand_in, arm, LONG_TASK, options=options, on_event=events.append)
    assert not end.is_complete
    assert code in end.reason
    assert "somebody else did it" in end.reason
    assert arm.names() == ["move", "hold", "stop"]
    assert "session lost" in [event.kind for event in events]
    assert len(stand_in.hellos) == 1  # it is not fought for


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("code", ["unknown_session", "unauthorised"])
def test_a_session_that_is_lost_is_taken_up_again_before_the_arm_moves_on(
    stand_in: Any, code: str, options: LoopOptions
) -> None:
    lose_in_first_motion(stand_in, code)
    greeted: list[int] = []

    class Counting(WatchedArm):
        def move_to(self, pose: np.ndarray, duration_s: float) -> None:
            greeted.append(len(stand_in.hellos))
            super().move_to(pose, duration_s)

    arm = Counting()
    end, _ = run(stand_in, arm, LONG_TASK, options=options)
    assert end.is_complete
    assert arm.names()[:2] == ["move", "hold"]
    assert greeted[:2] == [1, 2]


def test_a_step_confirmed_after_the_session_was_lost_is_not_executed(stand_in: Any) -> None:
    class Confirming:
        """Says yes to every motion, a while after it was asked."""

        def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
            return True

        def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
            while_waiting(2 * PERIOD_S)
            return keys[0]

    lose_in_first_motion(stand_in, "unknown_session")
    task = LONG_TASK.model_copy(update={"sub_goals": (SubGoal(name="a", max_steps=1),)})
    options = LoopOptions(confirm_steps=True)
    end, records = run(stand_in, WatchedArm(), task, operator=Confirming(), options=options)
    assert end.is_complete
    assert "the session is lost" in str(records[0].problem)
    assert [record.is_executed for record in records[-2:]] == [False, True]


def test_a_plan_behind_word_that_the_session_is_over_does_not_hide_it(stand_in: Any) -> None:
    with stand_in.link().client as client:
        session = client.connect().session
        stand_in.push(ErrorReply("session_ended", "by the operator"))
        stand_in.push(stand_in.act(Observe(session, 1, 0.0, FRAME, np.zeros(7))))
        time.sleep(0.3)  # so that both lie ready
        reply = client.poll_act(2.0)
        assert isinstance(reply, ErrorReply)
        assert reply.code == "session_ended"


def test_the_gripper_waits_for_a_session_that_was_lost_as_the_motion_ended(stand_in: Any) -> None:
    lose_in_first_motion(stand_in, "unknown_session")
    greeted: list[int] = []

    class There(WatchedArm):
        """Is at its target when it is told to hold."""

        def hold(self) -> None:
            self.calls.append(("hold", time.monotonic()))

        def grasp(self) -> None:
            super().grasp()
            greeted.append(len(stand_in.hellos))

    goals = (SubGoal(name="a", max_steps=1, gripper_after="close"),)
    end, _ = run(stand_in, There(), TASK.model_copy(update={"sub_goals": goals}))
    assert end.is_complete
    assert greeted == [2]
