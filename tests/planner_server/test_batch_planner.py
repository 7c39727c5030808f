"""From requests to plans without a thread between: refusals by their cause, what is remembered, goals with a pose."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from planner_server.batch_planner import BatchPlanner
from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens, digest_of
from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.memories import Memories
from planner_server.options import EnergyOptions, PlanOptions
from planner_server.plan_request import Planned, PlanRequest
from planner_server.planning import Budget, Plan, PlanningError, PlanningProblem
from planner_server.planning.errors import NonFiniteEnergyError
from planner_server.served_model import ServedModel, load_served_model
from tests.planner_server.plan_requests import plan_request


class Fails:
    """A planner that cannot."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        raise self._error


class Notes:
    """A planner that notes where its searches begin."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.warm_starts: list[torch.Tensor | None] = []

    def plan(self, problems: Sequence[PlanningProblem], budget: Budget | None = None) -> list[Plan]:
        self.warm_starts += [problem.warm_start for problem in problems]
        return list(self._real.plan(problems, budget))


@pytest.fixture(scope="module")
def model(make_settings: Callable[..., Any]) -> ServedModel:
    return load_served_model(make_settings(planners={"icem": {"uniform_candidates": 8}}))


def planner_of(model: ServedModel, searching: Any, cached_goals: int = 8) -> BatchPlanner:
    served = dataclasses.replace(model, planners={"it": searching})
    return BatchPlanner(served, GoalTokens(served, cached_goals), Memories(4))


@pytest.fixture
def request_for(
    frame: Any, goal_png: bytes, encode_png: Callable[[Any], bytes], pose: list[float]
) -> Callable[..., PlanRequest]:
    def make(goal: bytes = goal_png, rules: GoalRules | None = None, **changes: Any) -> PlanRequest:
        image = GoalImage(digest_of(np.frombuffer(goal, np.uint8)[None]), 48, 48, "image/png", goal)
        goal_of = SubGoal((image,), rules or GoalRules())
        return plan_request(frame, pose, goal_of, "it", **changes)

    return make


def planned(planner: BatchPlanner, request: PlanRequest) -> Planned:
    (answer,) = planner.plan([request])
    assert isinstance(answer, Planned), answer
    return answer


@pytest.mark.parametrize(
    ("cause", "code", "said"),
    [
        (PlannerError("invalid_frame", "cut short"), "invalid_frame", "cut short"),
        (PlanningError("no action is allowed"), "invalid_request", "no action is allowed"),
        (NonFiniteEnergyError("nan"), "planner_failed", "PLANNER_PRECISION=float32"),
        (torch.OutOfMemoryError("CUDA"), "planner_failed", "lower chunk_size"),
        (ZeroDivisionError("a secret of the inside"), "planner_failed", "the server's log"),
    ],
)
def test_a_search_that_fails_is_refused_by_its_cause(
    model: ServedModel,
    request_for: Callable[..., PlanRequest],
    cause: Exception,
    code: str,
    said: str,
) -> None:
    (answer,) = planner_of(model, Fails(cause)).plan([request_for()])
    assert isinstance(answer, PlannerError)
    assert answer.code == code
    assert said in answer.message
    assert "secret" not in answer.message


def test_a_search_begins_with_the_rest_of_the_last_plan_for_the_same_goal(
    model: ServedModel, request_for: Callable[..., PlanRequest], encode_png: Any, frame: Any
) -> None:
    notes = Notes(model.planners["icem"])
    planner = planner_of(model, notes)
    mine = {"session_id": "s", "horizon": 3}
    last = planned(planner, request_for(**mine)).plan.actions
    planned(planner, request_for(**mine))
    planned(planner, request_for(encode_png(frame), **mine))  # another goal
    planned(planner, request_for(encode_png(frame), session_id="other", horizon=3))
    first, rest, *others = notes.warm_starts
    assert first is None
    assert rest is not None
    np.testing.assert_allclose(rest.numpy(), [*last[1:], np.zeros(7)], atol=1e-6)
    assert others == [None, None]


def test_the_pose_of_a_goal_counts_as_much_as_the_session_says(
    model: ServedModel, request_for: Callable[..., PlanRequest], pose: list[float]
) -> None:
    planner = planner_of(model, model.planners["icem"])
    options = PlanOptions(energy=EnergyOptions(proprio_weight=2.0))
    there, away = GoalRules(state=pose), GoalRules(state=[pose[0] + 0.5, *pose[1:]])
    images_alone = planned(planner, request_for()).plan.energy_now
    reached = planned(planner, request_for(rules=there, options=options)).plan.energy_now
    far = planned(planner, request_for(rules=away, options=options)).plan.energy_now
    assert reached == pytest.approx(images_alone, abs=1e-5)
    assert far > reached + 0.01


def test_goals_beyond_the_cache_are_encoded_again(
    model: ServedModel, request_for: Callable[..., PlanRequest], encode_png: Any, frame: Any
) -> None:
    planner = planner_of(model, model.planners["icem"], cached_goals=1)
    there, here = request_for(), request_for(encode_png(frame))
    energies = [planned(planner, each).plan.energy_now for each in (there, here, there, here)]
    assert energies[:2] == energies[2:]
    assert energies[1] < 1e-5 < energies[0]


def test_the_memory_of_the_session_not_planned_for_longest_makes_room(
    request_for: Callable[..., PlanRequest],
) -> None:
    memories = Memories(2)
    first, second = (memories.recall(request_for(session_id=name)) for name in ("1", "2"))
    assert memories.recall(request_for(session_id="1")) is first
    memories.recall(request_for(session_id="3"))
    assert memories.recall(request_for(session_id="1")) is first
    assert memories.recall(request_for(session_id="2")) is not second
