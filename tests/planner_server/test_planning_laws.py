"""Laws that every planner keeps, on a world whose best action is known."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from planner_server.planning import (
    ActionBounds,
    Budget,
    CemPlanner,
    CemSettings,
    Context,
    EnergySpec,
    Goal,
    GripperRule,
    InvalidProblemError,
    NonFiniteEnergyError,
    Plan,
    Planner,
    PlanningProblem,
    RolloutEngine,
    StopReason,
    UnknownPlannerError,
    Workspace,
    contains,
    planners,
    shift,
)

BOX = (0.15, 0.15, 0.15, 0.0, 0.0, 0.0, 1.0)
TARGET = (0.1, -0.07, 0.02, 0.0, 0.0, 0.0, 0.5)
SMALL: dict[str, dict[str, Any]] = {
    "surrogate": {},
    "icem": {},
    "mppi": {},
    "gradient": {},
    "cem": {"candidates": 200, "elites": 20, "iterations": 8},
}
ANYTIME = [
    name for name in SMALL if name != "cem"
]  # the reference answers with what it never tried


@dataclass
class LinearWorld:
    """Tokens are the state itself, so the energy is a bowl around the action that leads to the goal."""

    delay_s: float = 0.0  # per candidate
    max_frames: int = 8
    calls: list[int] = field(default_factory=list)

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(actions.shape[0] * actions.shape[1])
        time.sleep(self.delay_s * self.calls[-1])
        poses = context.states[:, None, None, -1] + actions.cumsum(dim=2)
        return poses[..., None, :].to(context.tokens.dtype), poses


class CurvedWorld(LinearWorld):
    """The same with tokens that bend: twelve of them, each another smooth function of the state."""

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        _, poses = super().rollout(context, actions)
        return bent(poses), poses


def bent(poses: Tensor) -> Tensor:
    """Return tokens [..., 12, 7] of poses [..., 7]."""
    frequencies = torch.linspace(1, 6, 12)[:, None]
    scaled = poses * torch.tensor([1.0] * 6 + [0.2])  # metres and closedness turn a token alike
    return torch.sin(frequencies * scaled[..., None, :] + frequencies)


def make(name: str, world: Any = None, batch_size: int | None = None) -> Planner:
    engine = RolloutEngine(world or LinearWorld())
    return planners.make(name, engine, planners.settings(name, **SMALL[name]))


def problem_for(
    target: Sequence[float], *, bounds: ActionBounds | None = None, **changes: Any
) -> PlanningProblem:
    """Start at the origin; the goal is the state `target` [7]."""
    fields: dict[str, Any] = {
        "context_tokens": torch.zeros(1, 7),
        "context_states": torch.zeros(1, 7),
        "goal": Goal.of(torch.tensor([target])),
        "bounds": bounds or ActionBounds.symmetric(BOX),
    }
    return PlanningProblem(**(fields | changes))


def curved_problem(target: Sequence[float], seed: int, horizon: int = 1) -> PlanningProblem:
    return PlanningProblem(
        bent(torch.zeros(7)),
        torch.zeros(1, 7),
        Goal.of(bent(torch.tensor(target))),
        ActionBounds.symmetric(BOX),
        horizon=horizon,
        seed=seed,
    )


def plan(name: str, problem: PlanningProblem, budget: Budget | None = None) -> Plan:
    (found,) = make(name).plan([problem], budget)
    return found


# What is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_the_known_minimum_is_found(name: str) -> None:
    found = plan(name, problem_for(TARGET))
    np.testing.assert_allclose(found.actions[0, :3], TARGET[:3], atol=0.02)
    assert found.energy < 0.3 * found.energy_now
    assert found.energy_do_nothing == pytest.approx(found.energy_now)
    np.testing.assert_allclose(found.predicted_states, found.actions, atol=1e-6)
    assert found.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("name", SMALL)
def test_two_steps_reach_what_one_cannot(name: str) -> None:
    far = (0.25, -0.2, 0.05, 0.0, 0.0, 0.0, 0.0)
    one = plan(name, problem_for(far))
    two = plan(name, problem_for(far, horizon=2))
    assert two.actions.shape == (2, 7)
    assert two.energy < one.energy
    assert two.energy < 0.5 * two.energy_now


@pytest.mark.parametrize("name", SMALL)
def test_rotations_are_searched_where_the_bounds_allow_them(name: str) -> None:
    turned = (0.05, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0)
    yaw_only = ActionBounds.symmetric((0.1, 0.1, 0.1, 0.0, 0.0, 0.3, 0.0))
    found = plan(name, problem_for(turned, bounds=yaw_only))
    assert found.actions[0, 5] == pytest.approx(0.2, abs=0.05)
    np.testing.assert_array_equal(found.actions[0, 3:5], 0.0)
    all_axes = ActionBounds.symmetric((0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.0))
    found = plan(name, problem_for((0, 0, 0, 0.2, -0.2, 0.1, 0), bounds=all_axes))
    assert found.energy < 0.6 * found.energy_now


@pytest.mark.parametrize("name", ANYTIME)
def test_the_fit_or_the_clouds_come_close_on_a_curved_world(name: str) -> None:
    found = [make(name, CurvedWorld()).plan([curved_problem(TARGET, seed)])[0] for seed in range(3)]
    for each in found:
        assert each.energy < 0.25 * each.energy_do_nothing


@pytest.mark.parametrize("name", ANYTIME)
def test_the_best_action_on_the_edge_of_a_ball_is_found(name: str) -> None:
    bounds = ActionBounds.symmetric(BOX, l1_radius_m=0.1)
    found = plan(name, problem_for((0.3, 0.02, 0.0, 0, 0, 0, 0), bounds=bounds))
    np.testing.assert_allclose(found.actions[0, :3], (0.08, 0.02, 0.0), atol=0.025)


def test_the_surrogate_needs_far_fewer_evaluations_than_the_reference() -> None:
    problem = curved_problem(TARGET, seed=0)
    (surrogate,) = make("surrogate", CurvedWorld()).plan([problem])
    (reference,) = make("cem", CurvedWorld()).plan([problem])
    assert surrogate.evaluations <= 150 < 10 * 150 < reference.evaluations
    assert surrogate.energy <= reference.energy + 0.01 * reference.energy_do_nothing


@pytest.mark.parametrize("name", ANYTIME)
def test_staying_is_the_answer_at_the_goal(name: str) -> None:
    found = plan(name, problem_for((0.0,) * 7))
    np.testing.assert_array_equal(found.actions, np.zeros((1, 7)))
    assert found.energy == found.energy_now == 0.0


@pytest.mark.parametrize("name", ANYTIME)
def test_the_answer_is_never_predicted_to_be_worse_than_staying(name: str) -> None:
    for seed in range(3):
        found = plan(name, problem_for((0.001, 0.002, 0, 0, 0, 0, 0), horizon=2, seed=seed))
        assert found.energy <= found.energy_do_nothing


@pytest.mark.parametrize("name", SMALL)
def test_a_goal_beyond_the_box_is_approached_along_its_edge(name: str) -> None:
    found = plan(name, problem_for((1.0, 0, 0, 0, 0, 0, 0)))
    assert found.actions[0, 0] == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("name", ANYTIME)
def test_a_warm_start_is_tried(name: str) -> None:
    guess = torch.tensor([TARGET, (0.0,) * 7])
    problem = problem_for(TARGET, horizon=2, warm_start=guess)
    found = plan(name, problem, Budget(max_evaluations=2))
    np.testing.assert_allclose(found.actions, guess, atol=1e-6)
    assert found.energy < 1e-6


def test_the_next_warm_start_is_what_is_left_of_the_plan() -> None:
    actions = np.arange(21.0).reshape(3, 7)
    np.testing.assert_array_equal(shift(actions)[:2], actions[1:])
    np.testing.assert_array_equal(shift(actions)[2], 0.0)
    np.testing.assert_array_equal(shift(actions, executed=5), np.zeros((3, 7)))


def test_older_frames_reach_the_model() -> None:
    problem = problem_for(
        TARGET,
        context_tokens=torch.zeros(3, 7),
        context_states=torch.tensor([[0.3] * 7, [0.2] * 7, [0.0] * 7]),
        context_actions=torch.full((2, 7), -0.1),
    )
    found = plan("icem", problem)
    np.testing.assert_allclose(found.actions[0, :3], TARGET[:3], atol=0.02)


# Bounds ---------------------------------------------------------------------------------------

magnitudes = st.sampled_from([0.0, 0.01, 0.075, 0.1, 0.3])
unit_floats = st.floats(-1, 1, width=32)


@st.composite
def any_bounds(draw: st.DrawFn) -> ActionBounds:
    low, high = [], []
    for _ in range(7):
        a, b = draw(magnitudes), draw(magnitudes)
        low.append(-a)
        high.append(b)
    corner = [draw(st.floats(-0.2, 0.1)) for _ in range(3)]
    sides = [draw(st.floats(0.0, 0.3)) for _ in range(3)]
    workspace = Workspace(
        (corner[0], corner[1], corner[2]),
        (corner[0] + sides[0], corner[1] + sides[1], corner[2] + sides[2]),
    )
    return ActionBounds(
        tuple(low),
        tuple(high),
        l1_radius_m=draw(st.sampled_from([None, 0.0, 0.05, 0.2])),
        workspace=draw(st.sampled_from([None, workspace])),
        gripper=draw(
            st.sampled_from(
                [
                    GripperRule(),
                    GripperRule(dead_zone=0.1),
                    GripperRule(close_from=0),
                    GripperRule(close_from=1),
                    GripperRule(open_from=0),
                ]
            )
        ),
    )


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=10, deadline=None)
@given(
    bounds=any_bounds(),
    goal=st.lists(unit_floats, min_size=7, max_size=7),
    state=st.lists(st.floats(-0.1875, 0.1875, width=32), min_size=3, max_size=3),
    horizon=st.integers(1, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_returned_actions_never_violate_the_bounds(
    name: str, bounds: ActionBounds, goal: list[float], state: list[float], horizon: int, seed: int
) -> None:
    start = torch.tensor([[*state, 0.0, 0.0, 0.0, 0.0]])
    problem = problem_for(goal, bounds=bounds, context_states=start, horizon=horizon, seed=seed)
    found = plan(name, problem, Budget(max_evaluations=60))
    actions = torch.from_numpy(found.actions)
    assert actions.shape == (horizon, 7)
    assert contains(bounds, actions, start[0])
    low, high = (np.array(limits) for limits in bounds.limits(horizon))
    assert (found.actions >= low).all()
    assert (found.actions <= high).all()
    if bounds.l1_radius_m is not None:
        assert np.abs(found.actions[:, :3]).sum(axis=1).max() <= bounds.l1_radius_m + 1e-9
    if bounds.workspace is not None:
        _check_workspace(bounds.workspace, np.array(state), found.predicted_states[:, :3])


@settings(max_examples=50, deadline=None)
@given(
    bounds=any_bounds(),
    state=st.lists(st.floats(-0.1875, 0.1875, width=32), min_size=3, max_size=3),
    horizon=st.integers(1, 3),
)
def test_a_plan_to_stay_does_not_violate_the_bounds_either(
    bounds: ActionBounds, state: list[float], horizon: int
) -> None:
    start = torch.tensor([[*state, 0.0, 0.0, 0.0, 0.0]])
    problem = problem_for(TARGET, bounds=bounds, context_states=start, horizon=horizon)
    found = plan("icem", problem, Budget(deadline_ms=1e-6))
    assert found.stop_reason is StopReason.HELD
    assert contains(bounds, torch.from_numpy(found.actions), start[0])
    low, high = (np.array(limits) for limits in bounds.limits(horizon))
    assert (found.actions >= low).all()
    assert (found.actions <= high).all()


def _check_workspace(workspace: Workspace, start: Any, positions: Any) -> None:
    """Inside, and where the start is outside, no further away than it was."""
    for axis in range(3):
        low = min(workspace.low_m[axis], start[axis]) - 1e-6
        high = max(workspace.high_m[axis], start[axis]) + 1e-6
        assert ((positions[:, axis] >= low) & (positions[:, axis] <= high)).all()


# Seeds, neighbours, budgets ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_plan_whatever_others_draw(name: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = plan(name, problem_for(TARGET, seed=7))
    torch.testing.assert_close(torch.rand(3), expected)
    again = plan(name, problem_for(TARGET, seed=7))
    other = plan(name, problem_for(TARGET, seed=8))
    np.testing.assert_array_equal(first.actions, again.actions)
    assert first.energy == again.energy
    assert len(first.candidates) == len(first.energy_per_iteration)
    assert not np.array_equal(first.candidates[0].actions, other.candidates[0].actions)


targets = st.tuples(*[st.floats(-0.1875, 0.1875, width=32)] * 3)


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=4, deadline=None)
@given(
    places=st.lists(targets, min_size=2, max_size=4),
    horizons=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    picked=st.integers(0, 3),
)
def test_a_plan_does_not_depend_on_its_neighbours(
    name: str, places: list[tuple[float, ...]], horizons: list[int], picked: int
) -> None:
    problems = [
        curved_problem((*place, 0.0, 0.0, 0.0, 0.3), seed=index, horizon=horizons[index])
        for index, place in enumerate(places)
    ]
    planner, budget = make(name, CurvedWorld()), Budget(max_evaluations=70)
    alone = problems[picked % len(problems)]
    together = planner.plan(problems, budget)[picked % len(problems)]
    (single,) = planner.plan([alone], budget)
    np.testing.assert_array_equal(together.actions, single.actions)
    assert together.energy == single.energy
    assert together.energy_per_iteration == single.energy_per_iteration


@pytest.mark.parametrize("name", SMALL)
def test_problems_searched_as_one_batch_give_the_plans_they_give_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [
        curved_problem((x, 0.05, -x / 2, 0, 0, 0, 0.2), seed=index)
        for index, x in enumerate((0.1, -0.13, 0.02, 0.14))
    ]
    planner, budget = make(name, CurvedWorld()), Budget(max_evaluations=120, plateau=0.01)
    alone = planner.plan(problems, budget)
    monkeypatch.setattr("planner_server.planning.planner.searched_alone", lambda _problem: False)
    together = planner.plan(problems, budget)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-4)
        assert one.energy == pytest.approx(other.energy, abs=1e-5)
        assert (one.evaluations, one.stop_reason) == (other.evaluations, other.stop_reason)
        assert one.energy_per_iteration == pytest.approx(other.energy_per_iteration, abs=1e-5)


@pytest.mark.parametrize("name", ANYTIME)
@settings(max_examples=5, deadline=None)
@given(
    place=targets,
    seed=st.integers(0, 2**31 - 1),
    budgets=st.lists(st.integers(1, 250), min_size=2, max_size=4),
)
def test_more_budget_never_gives_a_higher_energy(
    name: str, place: tuple[float, ...], seed: int, budgets: list[int]
) -> None:
    problem = curved_problem((*place, 0.0, 0.0, 0.0, 0.3), seed=seed)
    planner = make(name, CurvedWorld())
    energies = []
    for most in sorted(budgets):
        (found,) = planner.plan([problem], Budget(max_evaluations=most))
        assert found.evaluations <= most + 2
        energies.append(found.energy)
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(energies))


@pytest.mark.parametrize("name", ANYTIME)
def test_energies_of_a_search_never_rise(name: str) -> None:
    found = plan(name, problem_for(TARGET))
    history = found.energy_per_iteration
    assert list(history) == sorted(history, reverse=True)
    assert found.energy == pytest.approx(history[-1], abs=1e-6)


def test_the_best_of_the_reference_search_can_be_asked_for() -> None:
    engine = RolloutEngine(CurvedWorld())
    settings = CemSettings(candidates=60, elites=6, iterations=4, answer="best")
    (best,) = CemPlanner(engine, settings).plan([curved_problem(TARGET, 0)])
    assert best.energy == pytest.approx(best.energy_per_iteration[-1], abs=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_evaluations_are_counted_as_the_model_counts_them(name: str) -> None:
    world = LinearWorld()
    (found,) = make(name, world).plan([problem_for(TARGET)])
    assert found.evaluations == sum(world.calls)


@pytest.mark.parametrize("most", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("name", SMALL)
def test_evaluations_are_limited(name: str, most: int) -> None:
    found = plan(name, problem_for(TARGET), Budget(max_evaluations=most))
    assert found.stop_reason is StopReason.MAX_EVALUATIONS
    assert found.evaluations == most + 2  # the answer and staying are scored on top


@pytest.mark.parametrize("name", SMALL)
def test_a_deadline_ends_the_search_with_the_best_so_far(name: str) -> None:
    world = LinearWorld(delay_s=0.01)
    (found,) = make(name, world).plan([problem_for(TARGET)], Budget(deadline_ms=400))
    assert found.stop_reason is StopReason.DEADLINE
    assert 8 <= sum(world.calls) <= 80, "the time is enough for 40"
    assert world.calls[0] <= 8, "nothing is known about the model's speed yet"
    if name != "cem":
        assert found.energy <= found.energy_do_nothing


def test_a_deadline_too_short_for_one_batch_holds() -> None:
    world = LinearWorld(delay_s=0.01)
    planner = make("icem", world)
    planner.plan([problem_for(TARGET)], Budget(max_evaluations=16))  # learns the speed
    calls = len(world.calls)
    (found,) = planner.plan([problem_for(TARGET)], Budget(deadline_ms=1.0))
    assert found.stop_reason is StopReason.HELD
    assert len(world.calls) == calls, "the model was asked"
    assert found.evaluations == 0
    np.testing.assert_array_equal(found.actions, np.zeros((1, 7)))
    assert found.energy == found.energy_do_nothing == found.energy_now


def test_a_model_that_was_slow_once_is_asked_again() -> None:
    world = LinearWorld(delay_s=0.01)
    planner = make("icem", world)
    planner.plan([problem_for(TARGET)], Budget(max_evaluations=32))  # 10 ms per candidate
    world.delay_s = 0.0
    reasons = [
        planner.plan([problem_for(TARGET)], Budget(deadline_ms=50))[0].stop_reason
        for _ in range(40)
    ]
    assert reasons[0] is StopReason.HELD
    assert reasons[-1] is not StopReason.HELD


def test_problems_planned_one_after_another_share_the_deadline() -> None:
    world = LinearWorld(delay_s=0.003)
    planner = make("icem", world)
    planner.plan([problem_for(TARGET)], Budget(max_evaluations=64))
    found = planner.plan([problem_for(TARGET)] * 3, Budget(deadline_ms=600))
    assert {each.stop_reason for each in found} == {StopReason.DEADLINE}
    assert min(each.evaluations for each in found) > 0


def test_a_search_that_gains_nothing_more_stops() -> None:
    found = plan("mppi", problem_for(TARGET), Budget(plateau=0.5, plateau_iterations=1))
    assert found.stop_reason is StopReason.PLATEAU
    assert len(found.energy_per_iteration) < 6


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_a_search_whose_candidates_have_come_together_stops(name: str) -> None:
    found = plan(name, problem_for(TARGET), Budget(min_std_m=0.03))
    assert found.stop_reason is StopReason.CONVERGED


# Bad input --------------------------------------------------------------------------------------


class BrokenWorld(LinearWorld):
    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        tokens, poses = super().rollout(context, actions)
        return tokens * torch.nan, poses


@pytest.mark.parametrize("name", SMALL)
def test_a_model_that_predicts_no_numbers_is_an_error(name: str) -> None:
    with pytest.raises(NonFiniteEnergyError, match="check the weights"):
        make(name, BrokenWorld()).plan([problem_for(TARGET)])


class WorldBrokenForOne(CurvedWorld):
    """Predicts no numbers from where x begins beyond 0.4 m."""

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        tokens, poses = super().rollout(context, actions)
        is_broken = context.states[:, -1, 0] > 0.4
        return torch.where(is_broken[:, None, None, None, None], torch.nan, tokens), poses


@pytest.mark.parametrize("budget", [Budget(max_evaluations=60), Budget(plateau=0.5)])
@pytest.mark.parametrize("is_batch", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_problem_without_numbers_costs_the_others_nothing(
    name: str, is_batch: bool, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_batch:
        monkeypatch.setattr("planner_server.planning.planner.searched_alone", lambda _: False)
    good = [curved_problem((x, 0.05, -x / 2, 0, 0, 0, 0.2), 1) for x in (0.1, -0.13)]
    bad = replace(good[0], context_states=torch.full((1, 7), 0.5))
    world, alone = WorldBrokenForOne(), WorldBrokenForOne()
    found = make(name, world).plan([good[0], bad, good[1]], budget)
    expected = make(name, alone).plan(good, budget)
    assert sum(world.calls) <= sum(alone.calls) * 3 / 2, "nothing was imagined twice"
    for one, other in zip((found[0], found[2]), expected, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        assert (one.energy, one.evaluations) == (other.energy, other.evaluations)
    assert np.isnan(found[1].energy)
    assert np.isnan(found[1].energy_do_nothing)
    assert np.isfinite(found[1].actions).all()


class PartlyBrokenWorld(LinearWorld):
    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        tokens, poses = super().rollout(context, actions)
        return torch.where(poses[..., :1, None] < -0.05, torch.nan, tokens), poses


@pytest.mark.parametrize("name", ANYTIME)
def test_candidates_without_a_number_are_passed_over(name: str) -> None:
    (found,) = make(name, PartlyBrokenWorld()).plan([problem_for(TARGET)])
    assert found.energy <= found.energy_do_nothing


@pytest.mark.parametrize("name", SMALL)
def test_a_horizon_beyond_the_model_is_refused(name: str) -> None:
    with pytest.raises(InvalidProblemError, match="at most 8 steps"):
        make(name).plan([problem_for(TARGET, horizon=9)])


def test_unknown_planners_are_named() -> None:
    with pytest.raises(UnknownPlannerError, match="one of surrogate, icem"):
        planners.make("magic", RolloutEngine(LinearWorld()))
    with pytest.raises(UnknownPlannerError, match="magic"):
        planners.settings("magic")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cem", {"candidates": 4, "elites": 5}),
        ("icem", {"uniform_candidates": 0}),
        ("mppi", {"temperature": 0.0}),
        ("gradient", {"steps": "many"}),
        ("surrogate", {"desing": 3}),
    ],
)
def test_senseless_options_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(options)[-1]):
        planners.settings(name, **options)


def test_everything_held_still_is_planned_too() -> None:
    frozen = ActionBounds.symmetric((0.0,) * 7)
    for name in planners:
        found = plan(name, problem_for(TARGET, bounds=frozen))
        np.testing.assert_array_equal(found.actions, np.zeros((1, 7)))


@pytest.mark.parametrize(
    "energy",
    [
        EnergySpec(metric="l2"),
        EnergySpec(metric="cosine"),
        EnergySpec(over="all"),
        EnergySpec(over="discounted", discount=0.5),
        EnergySpec(proprio_weight=0.5),
    ],
)
@pytest.mark.parametrize("name", ["surrogate", "gradient"])
def test_other_energies_are_minimised_as_well(name: str, energy: EnergySpec) -> None:
    start = torch.full((1, 7), 0.05)
    target = torch.tensor([[0.15, -0.05, 0.1, 0.05, 0.05, 0.05, 0.4]])
    problem = problem_for(
        TARGET,
        context_states=start,
        goal=Goal(target[None], states=target),
        energy=energy,
        horizon=2,
    )
    found = plan(name, problem)
    assert found.energy < 0.6 * found.energy_do_nothing
