"""A device that fails, and a planning thread that does: everybody is told, and whoever watches can see it."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch

import planner_server.start
from planner_server.errors import PlannerError
from planner_server.goal_tokens import digest_of
from planner_server.goals import GoalImage, SubGoal
from planner_server.plan_request import PlanRequest
from planner_server.planning import Budget, Plan, PlanningProblem
from planner_server.served_model import ServedModel, load_served_model
from planner_server.settings import Settings
from planner_server.worker import PlanningWorker, WorkerOptions
from tests.planner_server.plan_requests import plan_request

Make = Callable[..., PlanRequest]


class Failing:
    """A real planner until it has an error to raise; then it waits to be let go on, and raises it."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.error: Exception | None = None
        self.entered, self.gate = threading.Event(), threading.Event()

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        if self.error is None:
            return list(self._real.plan(problems, budget))
        self.entered.set()
        assert self.gate.wait(20)
        raise self.error


@pytest.fixture
def model(make_settings: Callable[..., Settings]) -> ServedModel:
    model = load_served_model(make_settings(max_batch=4))
    return dataclasses.replace(model, planners={"icem": Failing(model.planners["icem"])})


@pytest.fixture
def planner(model: ServedModel) -> Any:
    return model.planners["icem"]


@pytest.fixture
def worker(model: ServedModel) -> Iterator[PlanningWorker]:
    worker = PlanningWorker(lambda: model, WorkerOptions(torch_threads=1))
    worker.start().result(60)
    worker.ask(lambda *_: None, "until it is warm").result(60)
    worker.check_ready()
    yield worker
    worker.stop()


@pytest.fixture
def request_for(frame: Any, goal_png: bytes, pose: list[float]) -> Make:
    digest = digest_of(np.ascontiguousarray(frame[::-1]))
    goal = SubGoal((GoalImage(digest, 48, 48, "image/png", goal_png),))
    return lambda **changes: plan_request(frame, pose, goal, "icem", **changes)


def refusal_of(future: "Future[Any]") -> PlannerError:
    error = future.exception(20)
    assert isinstance(error, PlannerError)
    return error


def test_when_the_device_fails_everybody_is_told_and_the_worker_is_neither_ready_nor_alive(
    worker: PlanningWorker, planner: Any, request_for: Make
) -> None:
    planner.error = torch.AcceleratorError("CUDA error: an illegal memory access")
    running = worker.observe("running", request_for())
    assert planner.entered.wait(20)
    goal = worker.encode_goal(np.zeros((8, 8, 3), np.uint8))
    waiting: list[Future[Any]] = [worker.observe("waiting", request_for()), goal]
    planner.gate.set()
    for future in (running, *waiting):
        assert refusal_of(future).code == "not_ready"
        assert "device that plans has failed" in refusal_of(future).message
    for check in (worker.check_ready, worker.check_alive):
        with pytest.raises(PlannerError, match="device that plans has failed"):
            check()
    with pytest.raises(PlannerError, match="device that plans has failed"):
        worker.observe("next", request_for())


def test_a_device_that_fails_outside_of_a_plan_is_noticed_too(worker: PlanningWorker) -> None:
    def fail(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    assert refusal_of(worker.ask(fail, "landscape")).code == "not_ready"
    worker.drain(20.0)  # until the thread has ended
    with pytest.raises(PlannerError, match="device that plans has failed"):
        worker.check_alive()


def test_a_thread_that_fails_leaves_nobody_waiting(
    worker: PlanningWorker, planner: Any, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    planner.error = ZeroDivisionError("a bug")
    running = worker.observe("running", request_for())
    assert planner.entered.wait(20)
    unheard_of: Any = None  # nobody can say what goes with it
    waiting = [
        worker.observe("a", request_for(max_step=unheard_of)),
        worker.observe("b", request_for()),
    ]
    planner.gate.set()
    assert refusal_of(running).code == "planner_failed"
    for future in waiting:
        assert "planning thread has failed" in refusal_of(future).message
    assert "planning thread ends" in caplog.text
    with pytest.raises(PlannerError, match="planning thread has failed"):
        worker.check_alive()


def test_a_device_that_is_short_of_memory_is_not_asked_for_more(
    worker: PlanningWorker, planner: Any, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    planner.error = torch.OutOfMemoryError("CUDA out of memory")
    planner.gate.set()
    assert "not enough memory" in refusal_of(worker.plan(request_for())).message
    planner.error = None
    assert worker.plan(request_for()).result(20).plan.evaluations > 0
    worker.check_alive()


def test_a_server_whose_device_fails_says_so_to_whoever_watches_it(
    model: ServedModel,
    planner: Any,
    make_settings: Callable[..., Settings],
    run_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    frame: Any,
    goal_png: bytes,
    pose: list[float],
    encode_png: Callable[[Any], bytes],
) -> None:
    monkeypatch.setattr(planner_server.start, "load_served_model", lambda _: model)
    with run_server(make_settings()) as address, address.http() as http:
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        planner.error = torch.AcceleratorError("CUDA error: the GPU has fallen off the bus")
        planner.gate.set()
        files = {"frame": encode_png(frame), "goal": goal_png}
        refused = http.post("/v1/plan", files=files, data={"state": str(pose)})
        deadline = time.monotonic() + 20
        while http.get("/healthz").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for answer in (refused, http.get("/healthz"), http.get("/readyz")):
            assert answer.status_code == 503
            assert "device that plans has failed" in answer.json()["message"]
