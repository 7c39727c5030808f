"""What the server is told of an order: not that it was heard, but what the arm does."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from robot_client.errors import ArmError, ReflexError
from robot_client.loop import LoopOptions
from robot_client.protocol import Ack, Observe, Pause, Resume, Stop, decode
from robot_client.records import Event
from robot_client.tasks import SubGoal
from tests.robot_client.conftest import PERIOD_S, TASK, WatchedArm
from tests.robot_client.conftest import run_loop as run

Send = Callable[[bytes], None]

SOON_S = 5.0  # on a machine that does much else; a quiet one needs a hundredth


class Heavy(WatchedArm):
    """Takes a while to come to rest."""

    def __init__(self, braking_s: float) -> None:
        super().__init__()
        self.braking_s = braking_s
        self.resting = 0.0

    def hold(self) -> None:
        super().hold()
        self.resting = time.monotonic() + self.braking_s

    def stop(self) -> None:
        if "stop" not in self.names():
            self.resting = time.monotonic() + self.braking_s
        super().stop()

    def is_moving(self) -> bool:
        return super().is_moving() or time.monotonic() < self.resting


def reports(stand_in: Any, count: int) -> list[tuple[int, str]]:
    deadline = time.monotonic() + SOON_S
    while len(stand_in.reports) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return [(ack.order, ack.arm) for ack, _ in stand_in.reports]


def after_first(stand_in: Any, order: Any, delay_s: float) -> list[float]:
    """Push an order so long after the first plan went out; when it was pushed."""
    pushed: list[float] = []

    def push() -> None:
        pushed.append(time.monotonic())
        stand_in.push(order)

    def answer(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        if observe.seq == 1:
            threading.Timer(delay_s, push).start()

    stand_in.on_observe = answer
    return pushed


def test_a_stop_in_a_motion_is_reported_once_the_arm_stands(stand_in: Any) -> None:
    stand_in.step[0] = 0.1
    pushed = after_first(stand_in, Stop("s1", 5, "fire"), 0.3 * PERIOD_S)
    arm, events = WatchedArm(), list[Event]()
    end, _ = run(stand_in, arm, on_event=events.append)
    assert "fire" in end.reason
    assert reports(stand_in, 1) == [(5, "standing")]
    ack, when = stand_in.reports[0]
    assert ack.t_applied is not None
    assert ack.t_applied >= arm.time_of("stop")
    assert 0.0 <= ack.applied_ms <= 1e3 * (when - pushed[0])
    assert when - pushed[0] < SOON_S
    noted = [event for event in events if event.kind == "acknowledged"]
    assert [event.values["arm"] for event in noted] == ["standing"]


def test_an_arm_in_motion_holds_as_soon_as_a_renewed_greeting_says_that_it_is_paused(
    stand_in: Any,
) -> None:
    stand_in.step[0] = 0.1
    stand_in.state = "paused"
    after_first(stand_in, stand_in.welcome("s1"), 0.3 * PERIOD_S)
    stand_in.state = "running"
    threading.Timer(6 * PERIOD_S, lambda: stand_in.push(Resume("s1", 1))).start()
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert end.is_complete
    assert arm.names()[:2] == ["move", "hold"]


def test_a_paused_arm_stays_so_when_a_renewed_greeting_knows_of_no_pause(stand_in: Any) -> None:
    after_first(stand_in, Pause("s1", 1), 0.3 * PERIOD_S)
    # A server that crashed counts from the beginning.
    pushes = [stand_in.welcome("s1"), Resume("s1", 1)]
    asked: list[int] = []
    for push, periods in zip(pushes, (4, 9), strict=True):
        threading.Timer(periods * PERIOD_S, lambda push=push: stand_in.push(push)).start()
    threading.Timer(8 * PERIOD_S, lambda: asked.append(len(stand_in.observed))).start()
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert asked == [1]


def test_a_robot_that_was_told_stopped_stays_so_when_a_later_welcome_says_running(
    stand_in: Any,
) -> None:
    """A server that crashed may have lost the stop: only a resume ends it."""
    stand_in.state = "stopped"
    asked: list[int] = []

    def forget_the_stop() -> None:
        stand_in.state = "running"
        stand_in.push(stand_in.welcome("s1"))

    def resume() -> None:
        asked.append(len(stand_in.observed))
        stand_in.push(Resume("s1", 1))

    threading.Timer(3 * PERIOD_S, forget_the_stop).start()
    threading.Timer(7 * PERIOD_S, resume).start()
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert asked == [0]


def test_an_arm_that_brakes_for_long_is_first_reported_as_stopping(stand_in: Any) -> None:
    after_first(stand_in, Stop("s1", 5), 0.3 * PERIOD_S)
    arm = Heavy(braking_s=0.6)
    run(stand_in, arm)
    assert reports(stand_in, 2) == [(5, "stopping"), (5, "standing")]
    (first, _), (last, _) = stand_in.reports
    assert first.applied_ms < 600.0 <= last.applied_ms


def test_rest_is_reported_even_where_the_connection_was_renewed_while_the_arm_braked(
    stand_in: Any,
) -> None:
    def renew() -> None:
        assert reports(stand_in, 1) == [(1, "stopping")]
        stand_in.state = "paused"
        stand_in.push(stand_in.welcome("s1"))
        assert reports(stand_in, 2) == [(1, "stopping"), (1, "standing")]
        stand_in.push(Resume("s1", 2))

    after_first(stand_in, Pause("s1", 1), 0.3 * PERIOD_S)
    renewal = threading.Timer(0.4 * PERIOD_S, renew)
    renewal.start()
    end, _ = run(stand_in, Heavy(braking_s=1.5))
    renewal.join()
    assert end.is_complete
    assert reports(stand_in, 3)[1:] == [(1, "standing"), (2, "free")]


def test_rest_after_an_order_that_the_server_has_lost_is_not_reported_as_obeying_its_next(
    stand_in: Any,
) -> None:
    arm = Heavy(braking_s=1.0)

    def renew() -> None:
        assert reports(stand_in, 1) == [(1, "stopping")]
        stand_in.push(stand_in.welcome("s1"))  # running: it knows of no order
        while arm.is_moving():
            time.sleep(0.01)
        time.sleep(0.2)
        stand_in.push(Resume("s1", 1))

    after_first(stand_in, Pause("s1", 1), 0.3 * PERIOD_S)
    renewal = threading.Timer(0.4 * PERIOD_S, renew)
    renewal.start()
    end, _ = run(stand_in, arm)
    renewal.join()
    assert end.is_complete
    assert reports(stand_in, 2) == [(1, "stopping"), (1, "free")]


def test_an_arm_that_never_comes_to_rest_is_not_called_standing(stand_in: Any) -> None:
    after_first(stand_in, Stop("s1", 5), 0.3 * PERIOD_S)
    end, _ = run(stand_in, Heavy(braking_s=60.0))
    assert not end.is_complete
    assert reports(stand_in, 2) == [(5, "stopping")]


def test_a_pause_reports_rest_and_a_resume_that_the_arm_is_free(stand_in: Any) -> None:
    after_first(stand_in, Pause("s1", 1), 0.3 * PERIOD_S)
    timer = threading.Timer(6 * PERIOD_S, lambda: stand_in.push(Resume("s1", 2)))
    timer.start()
    end, _ = run(stand_in, Heavy(braking_s=0.5))
    assert end.is_complete
    assert reports(stand_in, 3) == [(1, "stopping"), (1, "standing"), (2, "free")]


def test_a_stop_reaches_an_arm_that_still_brakes_for_a_pause(stand_in: Any) -> None:
    after_first(stand_in, Pause("s1", 1), 0.3 * PERIOD_S)
    pushed: list[float] = []

    def stop() -> None:
        pushed.append(time.monotonic())
        stand_in.push(Stop("s1", 2))

    threading.Timer(PERIOD_S, stop).start()
    arm = Heavy(braking_s=2.0)
    run(stand_in, arm)
    assert arm.time_of("stop") - pushed[0] < 1.0
    assert (2, "standing") in reports(stand_in, 3)


def test_a_stop_is_obeyed_while_a_plan_is_awaited(stand_in: Any) -> None:
    def never(observe: Observe, send: Send) -> None:
        threading.Timer(0.3 * PERIOD_S, lambda: stand_in.push(Stop("s1", 1))).start()

    stand_in.on_observe = never
    task = TASK.model_copy(update={"stop_after_missed": 50})
    end, _ = run(stand_in, WatchedArm(), task)
    assert "stop" in end.reason
    assert reports(stand_in, 1) == [(1, "standing")]


class Pondering:
    """An operator who never answers."""

    def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
        return bool(self.choose(question, "yn", while_waiting))

    def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
        end = time.monotonic() + SOON_S
        while time.monotonic() < end:
            while_waiting(0.05)
        return keys[0]


def test_a_stop_is_obeyed_while_a_person_is_asked(stand_in: Any) -> None:
    after_first(stand_in, Stop("s1", 1), 2 * PERIOD_S)
    arm = WatchedArm()
    end, _ = run(stand_in, arm, operator=Pondering(), options=LoopOptions(confirm_steps=True))
    assert "ordered a stop" in end.reason
    assert "move" not in arm.names()
    assert reports(stand_in, 1) == [(1, "standing")]


class SlowHand(WatchedArm):
    def is_gripper_busy(self) -> bool:
        return "grasp" in self.names()


def test_a_stop_is_obeyed_while_the_gripper_works(stand_in: Any) -> None:
    after_first(stand_in, Stop("s1", 1), 3 * PERIOD_S)
    goals = (SubGoal(name="a", max_steps=1, gripper_after="close"),)
    end, _ = run(stand_in, SlowHand(), TASK.model_copy(update={"sub_goals": goals}))
    assert "ordered a stop" in end.reason
    assert reports(stand_in, 1) == [(1, "stopping")]  # and no more: these fingers never finish


@pytest.mark.parametrize("order", [Stop("s1", 1), Pause("s1", 1)])
def test_standing_is_said_when_the_fingers_stand_too(stand_in: Any, order: Any) -> None:
    class Closing(WatchedArm):
        def is_gripper_busy(self) -> bool:
            closing = [when for name, when in self.calls if name == "grasp"]
            return bool(closing) and time.monotonic() < closing[0] + 5 * PERIOD_S

    after_first(stand_in, order, 3 * PERIOD_S)
    if isinstance(order, Pause):
        threading.Timer(12 * PERIOD_S, stand_in.push, [Resume("s1", 2)]).start()
    first = SubGoal(name="a", max_steps=1, gripper_after="close")
    goals = (first, SubGoal(name="b", max_steps=1))
    arm = Closing()
    run(stand_in, arm, TASK.model_copy(update={"sub_goals": goals}))
    reports(stand_in, 2)
    said = [(ack.arm, when) for ack, when in stand_in.reports if ack.order == 1]
    assert [what for what, _ in said] == ["stopping", "standing"]
    assert said[1][1] >= arm.time_of("grasp") + 5 * PERIOD_S


def test_an_arm_whose_state_cannot_be_read_is_reported_as_unknown(stand_in: Any) -> None:
    class Blind(WatchedArm):
        def is_moving(self) -> bool:
            if "stop" in self.names():
                raise ReflexError("the arm stopped itself")
            return super().is_moving()

    after_first(stand_in, Stop("s1", 1), 0.3 * PERIOD_S)
    end, _ = run(stand_in, Blind())
    assert "ordered a stop" in end.reason
    assert reports(stand_in, 1) == [(1, "unknown")]


def test_an_arm_that_can_be_read_again_is_reported_at_rest(stand_in: Any) -> None:
    class Blinking(WatchedArm):
        """Its state cannot be read for a moment after it was told to hold."""

        def is_moving(self) -> bool:
            if "hold" in self.names() and time.monotonic() < self.time_of("hold") + 0.3:
                raise ArmError("the connection to the arm stutters")
            return super().is_moving()

    def pause_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            send(Pause("s1", 1).encode())
            threading.Timer(5 * PERIOD_S, lambda: stand_in.push(Resume("s1", 2))).start()
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = pause_first
    end, _ = run(stand_in, Blinking())
    assert end.is_complete
    assert reports(stand_in, 3) == [(1, "unknown"), (1, "standing"), (2, "free")]


def test_an_arm_that_does_not_take_the_stop_is_reported_as_unknown_and_ends_the_run(
    stand_in: Any,
) -> None:
    class Deaf(WatchedArm):
        def stop(self) -> None:
            super().stop()
            raise ArmError("press the emergency stop")

    after_first(stand_in, Stop("s1", 1), 0.3 * PERIOD_S)
    with pytest.raises(ArmError, match="emergency"):
        run(stand_in, Deaf())
    assert reports(stand_in, 1) == [(1, "unknown")]


def test_a_repeated_order_is_answered_with_what_the_arm_does_now(stand_in: Any) -> None:
    def twice(observe: Observe, send: Send) -> None:
        if observe.seq > 1:
            stand_in.answer(observe, send)
            return
        stand_in.push(Pause("s1", 1))
        threading.Timer(2 * PERIOD_S, lambda: stand_in.push(Pause("s1", 1))).start()
        threading.Timer(3 * PERIOD_S, lambda: stand_in.push(Resume("s1", 2))).start()

    stand_in.on_observe = twice
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert end.is_complete
    assert reports(stand_in, 3) == [(1, "standing"), (1, "standing"), (2, "free")]
    assert arm.names().count("hold") == 1


def test_an_acknowledgement_of_an_older_client_says_nothing_of_the_arm() -> None:
    ack = decode(b"\x83\xa4type\xa3ack\xa7session\xa1s\xa5order\x03")
    assert isinstance(ack, Ack)
    assert (ack.order, ack.arm, ack.t_applied, ack.applied_ms) == (3, "unknown", None, None)
