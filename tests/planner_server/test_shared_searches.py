"""Requests that are planned in one call: whom they share a search with, and what they do not share."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from planner_server.batch_planner import BatchPlanner
from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens, digest_of
from planner_server.goals import GoalImage, SubGoal
from planner_server.memories import Memories
from planner_server.options import EnergyOptions, GripperOptions, PlanOptions
from planner_server.plan_request import Planned, PlanRequest
from planner_server.planning import Budget, Plan, PlanningProblem
from planner_server.served_model import ServedModel, load_served_model
from tests.planner_server.plan_requests import plan_request

Make = Callable[..., PlanRequest]


class Noted:
    """A real planner whose calls are noted: how many problems, within which budget."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.calls: list[tuple[int, Budget]] = []

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        assert budget is not None
        self.calls.append((len(problems), budget))
        return list(self._real.plan(problems, budget))


@pytest.fixture(scope="module")
def model(make_settings: Callable[..., Any]) -> ServedModel:
    return load_served_model(make_settings(planners={"icem": {"uniform_candidates": 64}}))


@pytest.fixture
def noted(model: ServedModel) -> Noted:
    return Noted(model.planners["icem"])


@pytest.fixture
def planner(model: ServedModel, noted: Noted) -> BatchPlanner:
    served = dataclasses.replace(model, planners={"it": noted})
    return BatchPlanner(served, GoalTokens(served, 8), Memories(32))


@pytest.fixture
def request_for(frame: Any, goal_png: bytes, pose: list[float]) -> Make:
    digest = digest_of(np.ascontiguousarray(frame[::-1]))
    goal = SubGoal((GoalImage(digest, 48, 48, "image/png", goal_png),))

    def make(**changes: Any) -> PlanRequest:
        return plan_request(frame, pose, goal, "it", **changes)

    return make


def test_a_problem_that_cannot_be_posed_leaves_the_others_in_one_search(
    planner: BatchPlanner, noted: Noted, request_for: Make
) -> None:
    few = PlanOptions(max_evaluations=4)
    requests = [request_for(options=few, seed=seed) for seed in range(16)]
    requests[9] = request_for(options=few, committed=np.full((1, 7), 1e300))
    answers = planner.plan(requests)
    assert [size for size, _ in noted.calls] == [15]
    refused = answers.pop(9)
    assert isinstance(refused, PlannerError)
    assert refused.code == "invalid_request"
    assert "must be finite" in refused.message
    assert all(isinstance(answer, Planned) for answer in answers)


def test_what_is_late_is_searched_shortly_and_takes_nothing_from_the_others(
    planner: BatchPlanner, noted: Noted, request_for: Make
) -> None:
    def limited(**changes: Any) -> PlanRequest:
        return request_for(is_limited=True, patience_ms=60_000.0, **changes)

    (alone,) = planner.plan([limited()])
    noted.calls.clear()
    late = limited(received_s=time.monotonic() - 100.0)
    answers = dict(planner.answers([limited(), late, limited(seed=1)]))
    assert list(answers) == [1, 0, 2]  # it has waited longest, and its search is short
    (first, short), (second, full) = noted.calls
    assert (first, short.max_evaluations) == (1, 16)
    assert (second, full.max_evaluations) == (2, None)
    assert full.deadline_ms is not None
    assert full.deadline_ms > 30_000
    found = [answers[index] for index in range(3)]
    evaluations = [each.plan.evaluations for each in found if isinstance(each, Planned)]
    assert isinstance(alone, Planned)
    assert evaluations[0] == evaluations[2] == alone.plan.evaluations > evaluations[1]


def test_a_search_ends_when_the_first_of_its_answers_is_due(
    planner: BatchPlanner, noted: Noted, request_for: Make
) -> None:
    planner.plan([request_for(is_limited=True, patience_ms=ms) for ms in (90_000.0, 60_000.0)])
    ((size, budget),) = noted.calls
    assert size == 2
    assert budget.deadline_ms is not None
    assert 30_000 < budget.deadline_ms < 60_000


def test_only_who_is_about_as_patient_is_planned_together(request_for: Make) -> None:
    def limited(patience_s: float, waited_s: float = 0.0) -> PlanRequest:
        received_s = time.monotonic() - waited_s
        return request_for(is_limited=True, patience_ms=1e3 * patience_s, received_s=received_s)

    assert limited(60).goes_with(limited(110))
    assert limited(110).goes_with(limited(60))
    assert not limited(60).goes_with(limited(300))
    assert not limited(300).goes_with(limited(60))
    assert not limited(60).goes_with(limited(60, waited_s=70))  # which is late
    assert limited(60, waited_s=70).goes_with(limited(60, waited_s=80))
    assert request_for(patience_ms=1.0).goes_with(request_for(patience_ms=9e9))  # nothing ends it


@pytest.mark.parametrize(
    "other",
    [
        {"horizon": 2},
        {"options": PlanOptions(context=2)},
        {"options": PlanOptions(energy=EnergyOptions(metric="l2"))},
        {"options": PlanOptions(gripper=GripperOptions(close_from=0))},
        {"options": PlanOptions(plateau=0.1)},
        {"max_step": (0.15,) * 3 + (0.0,) * 4},
        {"is_limited": True},
    ],
    ids=["horizon", "context", "energy", "gripper rule", "plateau", "axes", "deadline"],
)
def test_what_is_not_searched_as_one_is_not_planned_together(
    request_for: Make, other: dict[str, Any]
) -> None:
    mine, its = request_for(), request_for(**other)
    assert not mine.goes_with(its)
    assert not its.goes_with(mine)
    assert its.goes_with(request_for(**other))


def test_what_differs_within_one_search_is_planned_together(
    request_for: Make, pose: list[float]
) -> None:
    narrow = (0.02,) * 3 + (0.0,) * 3 + (1.0,)
    options = PlanOptions(task="another", l1_radius_m=0.1, seed=3)
    its = request_for(seed=9, max_step=narrow, options=options, state=np.array(pose) + 0.1)
    assert request_for().goes_with(its)
    assert request_for().goes_with(request_for(committed=np.zeros((2, 7))))
