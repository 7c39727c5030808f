"""The planning thread: batches, turns, deadlines, and errors that stay where they belong."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import pytest
import torch

from planner_server.errors import PlannerError, StartupError, SupersededError
from planner_server.goals import GoalImage, SubGoal
from planner_server.mailbox import Mailbox
from planner_server.options import PlanOptions
from planner_server.plan_request import Planned, PlanRequest
from planner_server.planning import Budget, Plan, Planner, PlanningProblem, WorldModelDynamics
from planner_server.served_model import ServedModel, load_served_model
from planner_server.settings import Settings
from planner_server.worker import PlanningWorker, WorkerOptions
from tests.planner_server.plan_requests import plan_request

QUICK = {"icem": {"uniform_candidates": 8, "cloud_elites": ()}}
Make = Callable[..., PlanRequest]


class Wrapped:
    """A planner of a test: does something, then what the real one does."""

    def __init__(self) -> None:
        self.real: Planner
        self.sizes: list[int] = []
        self.budgets: list[Budget] = []

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        budget = budget or Budget()
        self.sizes.append(len(problems))
        self.budgets.append(budget)
        return self.change(self.real.plan(problems, budget), problems)

    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        return plans


class Broken(Wrapped):
    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        raise ZeroDivisionError("a bug")


class BreaksOnSeedSeven(Wrapped):
    """One problem of a batch spoils the whole call."""

    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        if any(problem.seed == 7 for problem in problems):
            raise ZeroDivisionError("a bug")
        return plans


class NanOnSeedSeven(Wrapped):
    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        return [
            dataclasses.replace(plan, actions=plan.actions * np.nan) if problem.seed == 7 else plan
            for plan, problem in zip(plans, problems, strict=True)
        ]


class FitsTwo(Wrapped):
    """A device whose memory holds two problems."""

    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        if len(problems) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plans


class Gated(Wrapped):
    """Waits until it is let through, so that a test knows what is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()

    def change(self, plans: list[Plan], problems: Sequence[PlanningProblem]) -> list[Plan]:
        self.entered.set()
        assert self.gate.wait(20)
        return plans


KINDS: dict[str, type[Wrapped]] = {
    "fast": Wrapped,
    "broken": Broken,
    "breaks": BreaksOnSeedSeven,
    "nan": NanOnSeedSeven,
    "small": FitsTwo,
    "gated": Gated,
}


@pytest.fixture
def planners() -> dict[str, Any]:
    return {name: kind() for name, kind in KINDS.items()}


@pytest.fixture
def worker(
    make_settings: Callable[..., Settings], planners: dict[str, Any]
) -> Iterator[PlanningWorker]:
    def load() -> ServedModel:
        model = load_served_model(make_settings(planners=QUICK, max_batch=8))
        for planner in planners.values():
            planner.real = model.planners["icem"]
        return dataclasses.replace(model, planners=planners)

    worker = PlanningWorker(load, WorkerOptions(torch_threads=1, goal_cache=2, max_waiting=3))
    worker.start().result(60)
    assert readiness_of(worker) == "ready"
    for planner in planners.values():
        planner.sizes.clear()
    yield worker
    planners["gated"].gate.set()
    worker.stop()


@pytest.fixture
def request_for(worker: PlanningWorker, frame: Any, goal_png: bytes, pose: list[float]) -> Make:
    digest = worker.encode_goal(np.ascontiguousarray(frame[::-1])).result(20)
    goal = SubGoal((GoalImage(digest, 48, 48, "image/png", goal_png),))

    def make(planner: str = "fast", **changes: Any) -> PlanRequest:
        return plan_request(frame, pose, goal, planner, **changes)

    return make


def code_of(future: "Future[Planned]") -> str:
    error = future.exception(20)
    assert isinstance(error, PlannerError)
    return error.code


def readiness_of(worker: PlanningWorker) -> str:
    """Wait until the warm-up is over and return its outcome."""
    deadline = time.monotonic() + 60
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


@pytest.fixture
def held(worker: PlanningWorker, request_for: Make, planners: dict[str, Any]) -> "Future[Planned]":
    """The worker is busy with a plan until the test opens the gate."""
    running = worker.plan(request_for("gated"))
    assert planners["gated"].entered.wait(20)
    return running


def test_an_error_stays_with_its_request(
    worker: PlanningWorker, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot_read() -> Any:
        raise PlannerError("invalid_frame", "broken")

    def has_a_bug() -> Any:
        raise KeyError("frame")

    assert code_of(worker.plan(request_for("broken"))) == "planner_failed"
    assert "a bug" in caplog.text
    assert code_of(worker.plan(request_for("nan", seed=7))) == "planner_failed"
    assert code_of(worker.plan(request_for(read_frame=cannot_read))) == "invalid_frame"
    assert code_of(worker.plan(request_for(read_frame=has_a_bug))) == "planner_failed"
    assert worker.plan(request_for()).result(20).plan.evaluations > 0


@pytest.mark.parametrize("planner", ["breaks", "nan"])
def test_one_sessions_failure_never_disturbs_its_batch(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any], planner: str
) -> None:
    alone = [worker.observe(f"a{seed}", request_for(planner, seed=seed)) for seed in (5, 7, 9)]
    planners["gated"].gate.set()
    assert code_of(alone[1]) == "planner_failed"
    plans = [alone[0].result(20).plan, alone[2].result(20).plan]
    assert planners[planner].sizes[0] == 3  # they were asked for together
    for seed, plan in zip((5, 9), plans, strict=True):
        same = worker.plan(request_for("fast", seed=seed)).result(20).plan
        np.testing.assert_array_equal(plan.actions, same.actions)


def test_what_does_not_fit_into_memory_is_planned_in_smaller_batches(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    waiting = [worker.observe(f"s{i}", request_for("small", seed=i)) for i in range(5)]
    planners["gated"].gate.set()
    assert all(each.result(20).plan.evaluations > 0 for each in waiting)
    assert planners["small"].sizes[0] == 5
    assert max(each.result().batch_size for each in waiting) == 2


def test_sessions_share_a_batch_only_where_planner_shape_and_budget_agree(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    waiting = [
        worker.observe("a", request_for()),
        worker.observe("b", request_for(options=PlanOptions(max_evaluations=4))),
        worker.observe("c", request_for()),
        worker.observe("d", request_for("nan")),
        worker.observe("e", request_for(horizon=2)),
    ]
    planners["gated"].gate.set()
    few = [each.result(20).plan.evaluations for each in waiting]
    assert planners["fast"].sizes == [2, 1, 1]
    assert few[1] < few[0]


def test_the_most_urgent_is_planned_first_and_its_search_gets_the_time_that_is_left(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    order: list[str] = []
    done = [
        worker.observe("patient", request_for("fast", patience_ms=60_000.0)),
        worker.observe("urgent", request_for("nan", patience_ms=5_000.0, is_limited=True)),
    ]
    done[0].add_done_callback(lambda _: order.append("patient"))
    done[1].add_done_callback(lambda _: order.append("urgent"))
    planners["gated"].gate.set()
    for each in done:
        each.result(20)
    assert order == ["urgent", "patient"]
    limit_ms = planners["nan"].budgets[-1].deadline_ms
    assert limit_ms is not None
    assert 0 < limit_ms < 5_000.0
    assert planners["fast"].budgets[-1].deadline_ms == 10_000.0  # the longest search


def test_a_waiting_observation_is_overtaken_and_never_decoded(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    def never() -> Any:
        raise AssertionError("decoded although overtaken")

    overtaken = [worker.observe("a", request_for(read_frame=never)) for _ in range(3)]
    newest = worker.observe("a", request_for())
    for future in overtaken:
        assert isinstance(future.exception(5), SupersededError)
    planners["gated"].gate.set()
    assert held.result(20)
    assert newest.result(20)


def test_single_plans_wait_in_a_bounded_queue(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    waiting = [worker.plan(request_for()) for _ in range(3)]
    with pytest.raises(PlannerError, match="waiting already"):
        worker.plan(request_for())
    assert waiting[1].cancel()
    planners["gated"].gate.set()
    assert waiting[2].result(20)


def test_stopping_answers_those_who_wait(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    waiting = worker.observe("a", request_for())
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    assert code_of(waiting) == "shutting_down"
    planners["gated"].gate.set()
    stopping.join(20)
    assert held.result(1)
    with pytest.raises(PlannerError, match="stopping"):
        worker.plan(request_for())


def test_draining_answers_what_waits_and_takes_nothing_new(
    worker: PlanningWorker, request_for: Make, held: Any, planners: dict[str, Any]
) -> None:
    waiting = worker.observe("a", request_for())
    draining = threading.Thread(target=worker.drain, args=(20.0,))
    draining.start()
    planners["gated"].gate.set()
    assert waiting.result(20)
    draining.join(20)
    with pytest.raises(PlannerError, match="stopping"):
        worker.observe("b", request_for())


def test_readiness_follows_the_warm_up(make_settings: Callable[..., Settings]) -> None:
    gate = threading.Event()

    def load_slowly() -> Any:
        gate.wait(20)
        return load_served_model(make_settings())

    worker = PlanningWorker(load_slowly, WorkerOptions(torch_threads=1))
    loaded = worker.start()
    with pytest.raises(PlannerError, match="warming up"):
        worker.check_ready()
    gate.set()
    loaded.result(60)
    assert readiness_of(worker) == "ready"
    worker.stop()


def test_a_model_that_cannot_plan_is_never_ready() -> None:
    class Unplannable:
        frame_size = (32, 32)
        most_sessions = 1

    worker = PlanningWorker(Unplannable, WorkerOptions())  # type: ignore[arg-type]
    worker.start().result(20)
    assert "cannot plan" in readiness_of(worker)
    worker.stop()


def test_frames_of_another_shape_than_the_goal_are_warned_about(
    worker: PlanningWorker, request_for: Make
) -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    planned = worker.plan(request_for(read_frame=lambda: wide)).result(20)
    assert any("differ in shape" in warning for warning in planned.warnings)


def test_what_the_model_did_not_expect_is_reported_as_surprise(
    worker: PlanningWorker, request_for: Make, frame: Any, pose: list[float]
) -> None:
    def look(state: list[float], picture: Any = frame, epoch: int = 0) -> float | None:
        request = request_for(
            state=np.array(state), read_frame=lambda: picture, session_id="s", epoch=epoch
        )
        return worker.observe("s", request).result(20).surprise

    assert look(pose) is None  # nothing was expected yet
    still = look(pose)
    moved = look(pose, np.ascontiguousarray(frame[:, ::-1]))
    assert still is not None
    assert moved is not None
    assert still >= 0
    assert moved > 0
    assert look([pose[0] + 1.0, *pose[1:]]) is None  # no action of this robot leads there
    assert look(pose, epoch=1) is None  # after a hello, the past is forgotten


def test_committed_actions_are_planned_from_where_they_lead(
    worker: PlanningWorker, request_for: Make, pose: list[float]
) -> None:
    committed = np.array([[0.1, 0, 0, 0, 0, 0, 0], [0, 0.05, 0, 0, 0, 0, 0]])
    plan = worker.plan(request_for(committed=committed)).result(20).plan
    start = np.array(pose[:3]) + np.array([0.1, 0.05, 0.0])
    np.testing.assert_allclose(plan.predicted_states[0, :3], start + plan.actions[0, :3], atol=1e-6)


def test_more_frames_of_context_change_the_plan_and_a_jump_ends_the_context(
    worker: PlanningWorker, request_for: Make, frame: Any, pose: list[float]
) -> None:
    def energies(context: int, session: str, jump_m: float) -> float:
        options = PlanOptions(context=context)
        for state in ([pose[0] - jump_m, *pose[1:]], pose):
            request = request_for(state=np.array(state), options=options, session_id=session)
            planned = worker.observe(session, request).result(20)
        return planned.plan.energy_do_nothing

    alone = energies(1, "a", 0.01)
    assert energies(2, "b", 0.01) != alone
    assert energies(2, "c", 3.0) == alone


def test_somebody_who_watches_is_shown_frame_heat_and_candidates(
    worker: PlanningWorker, request_for: Make
) -> None:
    assert worker.plan(request_for()).result(20).display is None
    display = worker.plan(request_for(is_watched=True)).result(20).display
    assert display is not None
    assert display.thumbnail.startswith(b"\xff\xd8")
    assert np.array(display.heat).shape == (4, 4)
    assert np.min(display.heat) > 0
    assert display.iterations
    for cloud in display.iterations:
        assert len(cloud.actions) == len(cloud.energies) == 8
        assert cloud.energies == sorted(cloud.energies)


def test_bfloat16_plans_stay_close(
    make_settings: Callable[..., Settings], request_for: Make, worker: PlanningWorker
) -> None:
    fast = PlanningWorker(
        lambda: load_served_model(make_settings(precision="bfloat16", planners=QUICK)),
        WorkerOptions(torch_threads=1),
    )
    fast.start().result(60)
    exact = worker.plan(request_for()).result(20).plan
    request = request_for("icem")
    plan, again = (fast.plan(request).result(20).plan for _ in range(2))
    np.testing.assert_array_equal(plan.actions, again.actions)
    assert plan.energy == pytest.approx(exact.energy, rel=0.05)
    fast.stop()


def test_the_search_is_compiled_where_configured(make_settings: Callable[..., Settings]) -> None:
    for compiled in (False, True):
        model = load_served_model(make_settings(compiled=compiled))
        dynamics = cast(WorldModelDynamics, model.engine.dynamics)
        assert (dynamics._compiled is not None) is compiled


def test_a_precision_that_the_device_lacks_ends_the_start(
    make_settings: Callable[..., Settings],
) -> None:
    with pytest.raises(StartupError, match=r"compute capability 8\.9"):
        load_served_model(make_settings(precision="float8"))


def together(first: str, second: str) -> bool:
    return first[0] == second[0]


def test_the_mailbox_keeps_turns_and_one_letter_per_sender() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert mailbox.put("a", "a1", due_s=1.0) is None
    assert mailbox.put("b", "b1", due_s=2.0) is None
    assert mailbox.put("a", "a2", due_s=9.0) == "a1"  # the letter is newer, the turn is not
    assert mailbox.take(8, together) == ["a2"]
    mailbox.put("a", "a3", due_s=3.0)
    assert [mailbox.take(8, together), mailbox.take(8, together)] == [["b1"], ["a3"]]
    mailbox.put("c", "c1", due_s=1.0)
    mailbox.close()
    assert mailbox.take(8, together) == ["c1"]
    assert mailbox.take(8, together) is None
    with pytest.raises(RuntimeError, match="closed"):
        mailbox.put("d", "d1", due_s=0.0)


def test_a_batch_takes_what_goes_together_in_order_of_urgency() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for key, letter, due_s in [(1, "x1", 5.0), (2, "y1", 2.0), (3, "x2", 1.0), (4, "x3", 3.0)]:
        mailbox.put(key, letter, due_s)
    assert mailbox.take(2, together) == ["x2", "x3"]
    assert mailbox.take(2, together) == ["y1"]
    assert mailbox.clear() == ["x1"]
