"""The planning thread and its in-tray."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from planner_server.errors import PlannerError, SupersededError
from planner_server.mailbox import Mailbox
from planner_server.plan_request import Planned, PlanRequest
from planner_server.planning import Budget, Dynamics, IcemPlanner, Plan, Planner, PlanningProblem
from planner_server.served_model import load_served_model
from planner_server.settings import Settings
from planner_server.worker import PlanningWorker, WorkerOptions

FAST = IcemPlanner(uniform_candidates=8, cloud_elites=())


class BrokenPlanner:
    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        raise ZeroDivisionError("a bug")


class NanPlanner:
    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        plan = FAST.plan(dynamics, problem, budget)
        return Plan(**{**vars(plan), "actions": plan.actions * np.nan})


class GatedPlanner:
    """Waits until it is let through, so that a test knows what is under way."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()

    def plan(self, dynamics: Dynamics, problem: PlanningProblem, budget: Budget) -> Plan:
        self.entered.set()
        assert self.gate.wait(10)
        return FAST.plan(dynamics, problem, budget)


@pytest.fixture
def worker(make_settings: Callable[..., Settings]) -> Iterator[PlanningWorker]:
    options = WorkerOptions(torch_threads=1, goal_cache=2, max_waiting=3)
    worker = PlanningWorker(lambda: load_served_model(make_settings()), options)
    worker.start().result(30)
    yield worker
    worker.stop()


@pytest.fixture
def request_for(
    worker: PlanningWorker, frame: Any, pose: list[float]
) -> Callable[..., PlanRequest]:
    goal = worker.encode_goal(frame).result(10)

    def make(planner: Planner = FAST, **changes: Any) -> PlanRequest:
        fields: dict[str, Any] = {
            "read_frame": lambda: frame,
            "state": np.array(pose),
            "goal": goal,
            "planner": planner,
            "max_step": (0.15,) * 3 + (0.0,) * 3 + (1.0,),
            "seed": 0,
            "name": "test",
        }
        return PlanRequest(**(fields | changes))

    return make


def code_of(future: "Future[Planned]") -> str:
    error = future.exception(10)
    assert isinstance(error, PlannerError)
    return error.code


def readiness_of(worker: PlanningWorker) -> str:
    """Wait until the warm-up is over and return its outcome."""
    deadline = time.monotonic() + 30
    outcome = "warming up"
    while "warming up" in outcome:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        try:
            worker.check_ready()
            outcome = "ready"
        except PlannerError as error:
            outcome = error.message
    return outcome


def test_a_goal_is_encoded_once(worker: PlanningWorker, frame: Any) -> None:
    first = worker.encode_goal(frame).result(10)
    assert worker.encode_goal(frame.copy()).result(10) is first
    assert worker.encode_goal(frame[::-1].copy()).result(10).sha256 != first.sha256
    worker.encode_goal(frame[:, ::-1].copy()).result(10)  # pushes the first out
    assert worker.encode_goal(frame).result(10) is not first


def test_an_error_stays_with_its_request(
    worker: PlanningWorker,
    request_for: Callable[..., PlanRequest],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def cannot_read() -> Any:
        raise PlannerError("invalid_frame", "broken")

    assert code_of(worker.plan(request_for(BrokenPlanner()))) == "planner_failed"
    assert "a bug" in caplog.text
    assert code_of(worker.plan(request_for(NanPlanner()))) == "planner_failed"
    assert code_of(worker.plan(request_for(read_frame=cannot_read))) == "invalid_frame"
    assert worker.plan(request_for()).result(10).plan.evaluations > 0


def test_a_waiting_observation_is_overtaken_and_never_decoded(
    worker: PlanningWorker, request_for: Callable[..., PlanRequest]
) -> None:
    gated = GatedPlanner()
    running = worker.observe("a", request_for(gated))
    assert gated.entered.wait(10)

    def never() -> Any:
        raise AssertionError("decoded although overtaken")

    overtaken = [worker.observe("a", request_for(read_frame=never)) for _ in range(3)]
    newest = worker.observe("a", request_for())
    for future in overtaken:
        assert isinstance(future.exception(1), SupersededError)
    gated.gate.set()
    assert running.result(10)
    assert newest.result(10)


def test_single_plans_wait_in_a_bounded_queue(
    worker: PlanningWorker, request_for: Callable[..., PlanRequest]
) -> None:
    gated = GatedPlanner()
    running = worker.plan(request_for(gated))
    assert gated.entered.wait(10)
    waiting = [worker.plan(request_for()) for _ in range(3)]
    with pytest.raises(PlannerError, match="waiting already"):
        worker.plan(request_for())
    cancelled = waiting[1].cancel()
    gated.gate.set()
    assert cancelled
    assert running.result(10)
    assert waiting[2].result(10)


def test_stopping_answers_those_who_wait(
    worker: PlanningWorker, request_for: Callable[..., PlanRequest]
) -> None:
    gated = GatedPlanner()
    running = worker.plan(request_for(gated))
    assert gated.entered.wait(10)
    waiting = worker.observe("a", request_for())
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    assert code_of(waiting) == "shutting_down"
    gated.gate.set()
    stopping.join(10)
    assert running.result(1)
    with pytest.raises(PlannerError, match="stopping"):
        worker.plan(request_for())


def test_readiness_follows_the_warm_up(make_settings: Callable[..., Settings]) -> None:
    gate = threading.Event()

    def load_slowly() -> Any:
        gate.wait(10)
        return load_served_model(make_settings())

    worker = PlanningWorker(load_slowly, WorkerOptions(torch_threads=1))
    loaded = worker.start()
    with pytest.raises(PlannerError, match="warming up"):
        worker.check_ready()
    gate.set()
    loaded.result(30)
    assert readiness_of(worker) == "ready"
    worker.stop()


def test_a_model_that_cannot_plan_is_never_ready(make_settings: Callable[..., Settings]) -> None:
    class Unplannable:
        frame_size = (32, 32)

    worker = PlanningWorker(Unplannable, WorkerOptions())  # type: ignore[arg-type]
    worker.start().result(10)
    assert "cannot plan" in readiness_of(worker)
    worker.stop()


def test_frames_of_another_shape_than_the_goal_are_warned_about(
    worker: PlanningWorker, request_for: Callable[..., PlanRequest]
) -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    planned = worker.plan(request_for(read_frame=lambda: wide)).result(10)
    assert any("differ in shape" in warning for warning in planned.warnings)


def test_bfloat16_plans_stay_close(
    make_settings: Callable[..., Settings],
    request_for: Callable[..., PlanRequest],
    worker: PlanningWorker,
) -> None:
    fast = PlanningWorker(
        lambda: load_served_model(make_settings(precision="bfloat16")),
        WorkerOptions(torch_threads=1),
    )
    fast.start().result(30)
    exact_plan = worker.plan(request_for()).result(10).plan
    fast_plan = fast.plan(request_for()).result(10).plan
    again = fast.plan(request_for()).result(10).plan
    np.testing.assert_array_equal(fast_plan.actions, again.actions)
    assert fast_plan.energy == pytest.approx(exact_plan.energy, rel=0.02)
    fast.stop()


def test_the_mailbox_keeps_turns_and_one_letter_per_sender() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert mailbox.put("a", "a1") is None
    assert mailbox.put("b", "b1") is None
    assert mailbox.put("a", "a2") == "a1"
    assert mailbox.take() == "a2"
    mailbox.put("a", "a3")
    assert [mailbox.take(), mailbox.take()] == ["b1", "a3"]
    mailbox.put("c", "c1")
    assert mailbox.close() == ["c1"]
    assert mailbox.take() is None
    with pytest.raises(RuntimeError, match="closed"):
        mailbox.put("d", "d1")
