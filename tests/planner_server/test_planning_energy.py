"""Energies against their definitions, goals that are refused, budgets that are refused."""

import math
from typing import Any

import pytest
import torch

from planner_server.planning import (
    ActionBounds,
    Budget,
    BudgetError,
    EnergySpec,
    Goal,
    InvalidProblemError,
    PlanningProblem,
    goal_energy,
)
from planner_server.planning.energy import Energy

TOKENS = torch.randn(1, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))  # [P, S, H, N, D]
POSES = torch.randn(1, 3, 2, 7, generator=torch.Generator().manual_seed(1))
GOAL = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(2))


def energies(spec: EnergySpec, goal: Goal) -> torch.Tensor:
    return Energy(spec, [goal], TOKENS)(TOKENS, POSES)


def test_the_default_is_the_published_energy() -> None:
    expected = (TOKENS[:, :, -1] - GOAL[0]).abs().mean(dim=(-2, -1))
    torch.testing.assert_close(energies(EnergySpec(), Goal.of(GOAL[0])), expected)
    torch.testing.assert_close(goal_energy(TOKENS[:, :, -1], GOAL[0]), expected)


def test_l2_and_cosine() -> None:
    last, goal = TOKENS[:, :, -1], GOAL[0]
    torch.testing.assert_close(
        energies(EnergySpec(metric="l2"), Goal.of(goal)), (last - goal).square().mean(dim=(-2, -1))
    )
    cosine = (last * goal).sum(-1) / (last.norm(dim=-1) * goal.norm(dim=-1))
    torch.testing.assert_close(
        energies(EnergySpec(metric="cosine"), Goal.of(goal)), (1 - cosine).mean(dim=-1)
    )


def test_all_steps_count_alike_and_discounted_ones_less_and_less() -> None:
    first, second = ((TOKENS[:, :, h] - GOAL[0]).abs().mean(dim=(-2, -1)) for h in range(2))
    goal = Goal.of(GOAL[0])
    torch.testing.assert_close(energies(EnergySpec(over="all"), goal), (first + second) / 2)
    discounted = EnergySpec(over="discounted", discount=0.25)
    torch.testing.assert_close(energies(discounted, goal), 0.8 * first + 0.2 * second)


def test_goal_images_are_weighted() -> None:
    each = [energies(EnergySpec(), Goal.of(goal)) for goal in GOAL]
    both = energies(EnergySpec(), Goal(GOAL))
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    weighted = energies(EnergySpec(), Goal(GOAL, weights=torch.tensor([3.0, 1.0])))
    torch.testing.assert_close(weighted, 0.75 * each[0] + 0.25 * each[1])


@pytest.mark.parametrize("scale", [1e-40, 1e-13, 1e6, 1e38])
def test_only_the_ratios_of_goal_weights_matter(scale: float) -> None:
    weights = torch.tensor([3.0, 1.0])
    expected = energies(EnergySpec(), Goal(GOAL, weights=weights))
    scaled = energies(EnergySpec(), Goal(GOAL, weights=weights * scale))
    torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=0)


def test_tokens_outside_the_region_of_interest_do_not_count() -> None:
    mask = torch.tensor([True, False, True, False])
    masked = energies(EnergySpec(), Goal(GOAL[:1], token_mask=mask))
    expected = (TOKENS[:, :, -1] - GOAL[0]).abs().mean(dim=-1)[..., mask].mean(dim=-1)
    torch.testing.assert_close(masked, expected)


def test_poses_count_where_they_are_given_a_weight() -> None:
    states = torch.zeros(1, 7)
    states[0, 5] = 2 * math.pi  # the same yaw as 0
    goal = Goal(GOAL[:1], states=states)
    with_poses = energies(EnergySpec(proprio_weight=0.5), goal)
    wrapped = POSES[:, :, -1].clone()
    wrapped[..., 3:6] = (wrapped[..., 3:6] + math.pi) % (2 * math.pi) - math.pi
    expected = energies(EnergySpec(), goal) + 0.5 * wrapped.abs().mean(dim=-1)
    torch.testing.assert_close(with_poses, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": GOAL[0]}, r"Goal.of takes"),
        ({"tokens": GOAL[:0]}, r"expected \[G, N, D\]"),
        ({"tokens": GOAL * torch.nan}, "goal tokens must be finite"),
        ({"weights": torch.ones(3)}, "goal weights have shape"),
        ({"weights": torch.tensor([1.0, -1.0])}, "must be >= 0"),
        ({"weights": torch.zeros(2)}, "not all 0"),
        ({"token_mask": torch.zeros(4, dtype=torch.bool)}, "selects no token"),
        ({"token_mask": torch.ones(5, dtype=torch.bool)}, "token_mask have shape"),
        ({"states": torch.zeros(7)}, "goal states have shape"),
    ],
)
def test_senseless_goals_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProblemError, match=message):
        Goal(**({"tokens": GOAL} | fields))


def test_a_proprioceptive_energy_needs_the_goal_pose() -> None:
    with pytest.raises(InvalidProblemError, match=r"give Goal\.states"):
        PlanningProblem(
            torch.zeros(4, 5),
            torch.zeros(1, 7),
            Goal(GOAL),
            ActionBounds.symmetric((0.1,) * 7),
            energy=EnergySpec(proprio_weight=1.0),
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"deadline_ms": 0.0},
        {"deadline_ms": math.nan},
        {"max_evaluations": 0},
        {"plateau": -0.1},
        {"plateau_iterations": 0},
        {"min_std_m": 0.0},
    ],
)
def test_senseless_budgets_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match=next(iter(fields))):
        Budget(**fields)
