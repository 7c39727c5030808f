"""What the server's operator orders: pause, resume, stop; and a server that goes away on purpose."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from robot_client.errors import ServerRefusedError
from robot_client.protocol import Closing, ErrorReply, Observe, Pause, Resume, Stop
from robot_client.records import Event
from tests.robot_client.conftest import PERIOD_S, TASK, WatchedArm
from tests.robot_client.conftest import run_loop as run

Send = Callable[[bytes], None]


def wait_until(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pause_holds_the_arm_until_resume_and_both_are_acknowledged(stand_in: Any) -> None:
    arm, events = WatchedArm(), list[Event]()
    seen: list[int] = []

    def pause_at_two(observe: Observe, send: Send) -> None:
        stand_in.answer(observe, send)
        if observe.seq == 2:
            stand_in.push(Pause("s1", 1, "somebody is in the cell"))
            threading.Thread(target=resume_later, daemon=True).start()

    def resume_later() -> None:
        wait_until(lambda: stand_in.acks)
        time.sleep(4 * PERIOD_S)
        seen.append(len(stand_in.observed))
        stand_in.push(Resume("s1", 2))

    stand_in.on_observe = pause_at_two
    end, records = run(stand_in, arm, on_event=events.append)
    assert end.is_complete
    assert seen == [2]  # nothing was asked while paused
    assert stand_in.acks == [1, 2]
    assert "hold" in arm.names()
    assert [event.kind for event in events if event.kind in ("pause", "resume")] == [
        "pause",
        "resume",
    ]
    assert end.steps == 3
    assert all(record.problem is None for record in records if record.is_executed)


def test_a_plan_that_comes_after_a_pause_is_not_executed(stand_in: Any) -> None:
    def pause_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            send(Pause("s1", 1).encode())
            send(stand_in.act(observe).encode())
            threading.Timer(2 * PERIOD_S, lambda: stand_in.push(Resume("s1", 2))).start()
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = pause_first
    arm = WatchedArm()
    end, records = run(stand_in, arm)
    assert not records[0].is_executed
    assert "paused" in str(records[0].problem)
    assert arm.names()[0] == "hold"
    assert (end.is_complete, end.steps) == (True, 3)


def test_a_stop_ends_the_run_at_once_and_is_acknowledged(stand_in: Any) -> None:
    def stop(observe: Observe, send: Send) -> None:
        send(Stop("s1", 7, "smoke").encode())

    stand_in.on_observe = stop
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "smoke" in end.reason
    assert "move" not in arm.names()
    assert arm.names()[0] == "stop"
    wait_until(lambda: stand_in.acks == [7])


def test_a_repeated_order_is_acknowledged_again_and_obeyed_once(stand_in: Any) -> None:
    def repeat(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            orders = (Pause("s1", 3), Resume("s1", 4), Pause("s1", 3), Resume("s1", 4))
            for place, order in enumerate(orders):
                threading.Timer(place * PERIOD_S, stand_in.push, [order]).start()
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = repeat
    events: list[Event] = []
    end, _ = run(stand_in, WatchedArm(), on_event=events.append)
    assert end.is_complete
    assert stand_in.acks == [3, 4, 3, 4]
    assert [event.kind for event in events].count("pause") == 1


def test_a_server_that_counts_its_orders_anew_is_obeyed(stand_in: Any) -> None:
    def forget_then_stop(observe: Observe, send: Send) -> None:
        if observe.session == "s1" and observe.seq == 1:
            for order in (Pause("s1", 4), Resume("s1", 5)):
                send(order.encode())
        elif observe.session == "s1":
            stand_in.known_sessions.discard("s1")
            stand_in.known_sessions.update(("x", "y"))  # the next one is not called s1 again
            send(ErrorReply("unknown_session", "the server was restarted", observe.seq).encode())
        else:
            send(Stop(observe.session, 1, "fire").encode())

    stand_in.on_observe = forget_then_stop
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert "fire" in end.reason
    assert "move" not in arm.names()


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_forgotten_session_is_not_replaced_where_nothing_was_to_move(
    stand_in: Any, state: str
) -> None:
    with closing(stand_in.link()) as link:
        link.open()
        stand_in.known_sessions.clear()
        link.client.orders.state = state
        with pytest.raises(ServerRefusedError) as refused:
            link.recover()
        assert refused.value.code == "unknown_session"
        assert not stand_in.known_sessions  # none was made
        link.client.orders.state = "running"
        assert link.recover().session in stand_in.known_sessions


def test_an_order_for_another_session_is_passed_over(stand_in: Any) -> None:
    def mislead(observe: Observe, send: Send) -> None:
        send(Stop("another", 1).encode())
        stand_in.answer(observe, send)

    stand_in.on_observe = mislead
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert stand_in.acks == []


def test_a_session_that_is_found_paused_waits_for_its_resume(stand_in: Any) -> None:
    stand_in.state = "paused"
    threading.Timer(3 * PERIOD_S, lambda: stand_in.push(Resume("s1", 1))).start()
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    assert stand_in.acks == [1]


def test_an_observation_refused_for_a_pause_waits_and_goes_on(stand_in: Any) -> None:
    def refuse_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            send(ErrorReply("paused", "by the operator", 1).encode())
            threading.Timer(PERIOD_S, lambda: stand_in.push(Resume("s1", 1))).start()
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = refuse_first
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert end.is_complete
    assert arm.names()[0] == "hold"


def test_a_session_that_another_client_has_taken_is_not_fought_for(stand_in: Any) -> None:
    error = ErrorReply("session_taken", "another client holds s1")
    stand_in.on_observe = lambda observe, send: send(error.encode())
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "another client" in end.reason
    assert len(stand_in.hellos) == 1
    assert arm.names() == ["hold", "stop"]


def test_a_paused_robot_whose_session_another_client_takes_ends_its_run(stand_in: Any) -> None:
    def pause_then_lose(observe: Observe, send: Send) -> None:
        send(Pause("s1", 1).encode())
        send(ErrorReply("session_taken", "another client has it").encode())

    stand_in.on_observe = pause_then_lose
    threading.Timer(
        4 * PERIOD_S, lambda: stand_in.push(ErrorReply("session_taken", "another client has it"))
    ).start()
    arm = WatchedArm()
    end, _ = run(stand_in, arm)
    assert not end.is_complete
    assert "session_taken" in end.reason
    assert "move" not in arm.names()


def test_a_paused_robot_waits_for_the_restart_of_its_server(stand_in: Any) -> None:
    def pause(observe: Observe, send: Send) -> None:
        stand_in.state = "paused"
        send(Pause("s1", 1).encode())
        send(Closing("update").encode())
        stand_in.on_observe = stand_in.answer
        for periods in range(3, 30, 3):  # repeated, as the server does
            threading.Timer(periods * PERIOD_S, resume).start()

    def resume() -> None:
        stand_in.state = "running"
        if 2 not in stand_in.acks:
            stand_in.push(Resume("s1", 2))

    stand_in.on_observe = pause
    events = list[Event]()
    end, _ = run(stand_in, WatchedArm(), on_event=events.append)
    assert end.is_complete
    assert "server restarts" in [event.kind for event in events]


def test_a_server_that_announced_its_end_is_waited_for_once(stand_in: Any) -> None:
    def leave(observe: Observe, send: Send) -> None:
        send(Closing("for good").encode())
        threading.Timer(PERIOD_S, stand_in.die).start()  # the message needs a moment to leave

    stand_in.on_observe = leave
    events = list[Event]()
    task = TASK.model_copy(update={"restart_timeout_s": 0.3, "stop_after_missed": 2})
    end, _ = run(stand_in, WatchedArm(), task, on_event=events.append)
    assert not end.is_complete
    assert [event.kind for event in events].count("server restarts") == 1


def test_a_server_that_asks_for_less_is_asked_again_later(stand_in: Any) -> None:
    def limit_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            send(ErrorReply("rate_limited", "slower", 1).encode())
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = limit_first
    end, _ = run(stand_in, WatchedArm())
    assert (end.is_complete, end.missed) == (True, 1)


def test_all_greetings_of_one_client_carry_the_same_name(stand_in: Any) -> None:
    def refuse_first(observe: Observe, send: Send) -> None:
        if observe.seq == 1:
            send(ErrorReply("stale_seq", "the count has gone astray", 1).encode())
        else:
            stand_in.answer(observe, send)

    stand_in.on_observe = refuse_first
    end, _ = run(stand_in, WatchedArm())
    assert end.is_complete
    instances = {hello.instance for hello in stand_in.hellos}
    assert len(stand_in.hellos) == 2
    assert len(instances) == 1
    assert None not in instances


@pytest.mark.parametrize("goodbye", ["message", "error"])
def test_a_server_that_restarts_is_waited_for_and_the_task_goes_on(
    stand_in: Any, goodbye: str
) -> None:
    restarted: list[float] = []

    def close_at_two(observe: Observe, send: Send) -> None:
        if observe.seq != 2:
            stand_in.answer(observe, send)
        elif goodbye == "message":
            send(Closing("update").encode())
        else:
            send(ErrorReply("shutting_down", "update", observe.seq).encode())
        restarted.append(time.monotonic())

    stand_in.on_observe = close_at_two
    arm, events = WatchedArm(), list[Event]()
    end, _ = run(stand_in, arm, on_event=events.append)
    assert end.is_complete
    assert end.steps == 3
    assert "server restarts" in [event.kind for event in events]
    assert "hold" in arm.names()
    assert [hello.session for hello in stand_in.hellos] == ["s1", "s1"]


def test_a_server_that_announced_its_end_and_stays_away_ends_the_run(stand_in: Any) -> None:
    def leave(observe: Observe, send: Send) -> None:
        send(Closing("for good").encode())
        threading.Timer(PERIOD_S, stand_in.die).start()  # the message needs a moment to leave

    stand_in.on_observe = leave
    arm = WatchedArm()
    task = TASK.model_copy(update={"restart_timeout_s": 1.0, "stop_after_missed": 1})
    end, _ = run(stand_in, arm, task)
    assert not end.is_complete
    assert "move" not in arm.names()
    assert arm.names()[-1] == "stop"
