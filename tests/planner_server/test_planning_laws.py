"""Laws that every planner keeps, on a world whose best action is known."""

import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from planner_server.planning import (
    Bfloat16Dynamics,
    Budget,
    CemPlanner,
    IcemPlanner,
    Planner,
    PlanningProblem,
    StopReason,
    planners,
)

BOX = (0.15, 0.15, 0.15, 0.0, 0.0, 0.0, 1.0)
SMALL: dict[str, Planner] = {
    "icem": IcemPlanner(),
    "cem": CemPlanner(candidates=200, iterations=8, elites=20),
}


@dataclass
class LinearWorld:
    """Tokens are the state itself, so the energy is a bowl around the action that leads to the goal."""

    delay_s: float = 0.0
    batches: int = 0

    def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        self.batches += 1
        time.sleep(self.delay_s)
        states = state[:, None] + actions.cumsum(dim=1)
        return states[:, :, None, :].to(tokens.dtype), states


def problem_for(target: tuple[float, ...], horizon: int = 1, seed: int = 0) -> PlanningProblem:
    """Start at the origin; the goal is the state `target` [7]."""
    return PlanningProblem(
        context=torch.zeros(1, 1, 7),
        state=torch.zeros(7),
        goal=torch.tensor([target]),
        max_step=BOX,
        horizon=horizon,
        seed=seed,
    )


@pytest.mark.parametrize("name", SMALL)
def test_the_known_minimum_is_found(name: str) -> None:
    target = (0.1, -0.07, 0.02, 0.0, 0.0, 0.0, 0.5)
    plan = SMALL[name].plan(LinearWorld(), problem_for(target), Budget())
    np.testing.assert_allclose(plan.actions[0, :3], target[:3], atol=0.02)
    assert plan.energy < 0.25 * plan.energy_now
    assert plan.energy_do_nothing == pytest.approx(plan.energy_now)
    np.testing.assert_allclose(plan.predicted_states, plan.actions, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_energies_of_a_plan_never_rise_and_evaluations_are_counted(name: str) -> None:
    plan = SMALL[name].plan(LinearWorld(), problem_for((0.1, 0, 0, 0, 0, 0, 0)), Budget())
    if name == "icem":
        assert list(plan.energy_per_iteration) == sorted(plan.energy_per_iteration, reverse=True)
        assert plan.evaluations in (192 + 3 * 64 + 2, 192 + 3 * 64 + 3)
    else:
        assert plan.evaluations == 200 * 8 + 2
    assert plan.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("name", planners)
@settings(max_examples=12, deadline=None)
@given(
    box=st.lists(st.sampled_from([0.0, 0.01, 0.075, 0.3]), min_size=7, max_size=7),
    goal=st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7),
    horizon=st.integers(1, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_actions_never_leave_the_box(
    name: str, box: list[float], goal: list[float], horizon: int, seed: int
) -> None:
    problem = PlanningProblem(
        torch.zeros(1, 1, 7), torch.zeros(7), torch.tensor([goal]), tuple(box), horizon, seed
    )
    plan = planners[name]().plan(LinearWorld(), problem, Budget(max_evaluations=900))
    assert plan.actions.shape == (horizon, 7)
    assert (np.abs(plan.actions) <= np.array(box)).all()


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_plan_whatever_others_draw(name: str) -> None:
    first = SMALL[name].plan(LinearWorld(), problem_for((0.1,) * 7, seed=7), Budget())
    torch.manual_seed(123)
    torch.rand(5)
    again = SMALL[name].plan(LinearWorld(), problem_for((0.1,) * 7, seed=7), Budget())
    other = SMALL[name].plan(LinearWorld(), problem_for((0.1,) * 7, seed=8), Budget())
    np.testing.assert_array_equal(first.actions, again.actions)
    assert not np.array_equal(first.actions, other.actions)


def test_a_plan_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    IcemPlanner().plan(LinearWorld(), problem_for((0.1,) * 7), Budget())
    torch.testing.assert_close(torch.rand(3), expected)


def test_holding_still_is_the_answer_at_the_goal() -> None:
    plan = IcemPlanner().plan(LinearWorld(), problem_for((0.0,) * 7), Budget())
    np.testing.assert_array_equal(plan.actions, np.zeros((1, 7)))
    assert plan.energy == plan.energy_now == 0.0


def test_the_answer_is_never_predicted_to_be_worse_than_holding_still() -> None:
    for seed in range(5):
        problem = problem_for((0.001, 0.002, 0, 0, 0, 0, 0), horizon=2, seed=seed)
        plan = IcemPlanner().plan(LinearWorld(), problem, Budget())
        assert plan.energy <= plan.energy_do_nothing


def test_a_goal_beyond_the_box_is_approached_along_its_edge() -> None:
    plan = IcemPlanner().plan(LinearWorld(), problem_for((1.0, 0, 0, 0, 0, 0, 0)), Budget())
    assert plan.actions[0, 0] == pytest.approx(0.15, abs=0.01)


def test_a_deadline_ends_the_search_with_the_best_so_far() -> None:
    world = LinearWorld(delay_s=0.02)
    plan = IcemPlanner(chunk_size=16).plan(world, problem_for((0.1,) * 7), Budget(deadline_ms=50))
    assert plan.stop_reason is StopReason.DEADLINE
    assert 16 <= plan.evaluations <= 5 * 16
    assert plan.elapsed_ms < 450  # all batches would take half a second
    assert plan.energy <= plan.energy_do_nothing


def test_even_a_deadline_in_the_past_leaves_one_batch() -> None:
    plan = IcemPlanner(chunk_size=24).plan(
        LinearWorld(), problem_for((0.1,) * 7), Budget(deadline_ms=1e-9)
    )
    assert plan.evaluations >= 24
    plan = CemPlanner().plan(LinearWorld(), problem_for((0.1,) * 7), Budget(deadline_ms=1e-9))
    np.testing.assert_array_equal(plan.actions, np.zeros((1, 7)))  # no iteration was finished


@pytest.mark.parametrize("most", [1, 63, 64, 65, 200])
def test_evaluations_are_limited(most: int) -> None:
    plan = IcemPlanner().plan(LinearWorld(), problem_for((0.1,) * 7), Budget(max_evaluations=most))
    assert plan.stop_reason is StopReason.MAX_EVALUATIONS
    assert most <= plan.evaluations <= most + 3  # the answer itself is scored on top


def test_bfloat16_finds_nearly_the_same_plan() -> None:
    class MatmulWorld(LinearWorld):
        def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            predicted, states = super().rollout(tokens, state, actions)
            return predicted @ torch.eye(7), states

    problem = problem_for((0.1, -0.05, 0, 0, 0, 0, 0))
    exact = IcemPlanner().plan(MatmulWorld(), problem, Budget())
    fast = IcemPlanner().plan(Bfloat16Dynamics(MatmulWorld(), "cpu"), problem, Budget())
    np.testing.assert_allclose(fast.actions[:, :3], exact.actions[:, :3], atol=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.full((7,), torch.nan)}, "7 finite"),
        ({"state": torch.zeros(6)}, "7 finite"),
        ({"goal": torch.zeros(2, 7)}, "goal has shape"),
        ({"context": torch.zeros(1, 7)}, "context has shape"),
        ({"max_step": (0.1,) * 6}, "max_step"),
        ({"max_step": (-0.1,) * 7}, "max_step"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_senseless_problems_are_refused(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "context": torch.zeros(1, 1, 7),
        "state": torch.zeros(7),
        "goal": torch.zeros(1, 7),
        "max_step": BOX,
    }
    with pytest.raises(ValueError, match=message):
        PlanningProblem(**(fields | change))  # type: ignore[arg-type]


def test_senseless_options_are_refused() -> None:
    with pytest.raises(ValueError, match="elites"):
        CemPlanner(candidates=4, elites=5)
    with pytest.raises(ValueError, match="uniform_candidates"):
        IcemPlanner(uniform_candidates=0)
    with pytest.raises(ValueError, match="max_evaluations"):
        Budget(max_evaluations=0)
