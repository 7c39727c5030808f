"""Bounds: what is refused, and that the way back into them is a projection."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planner_server.planning import (
    ActionBounds,
    BoundsError,
    GripperRule,
    InvalidProblemError,
    PlanningProblem,
    Workspace,
    contains,
    project,
)
from planner_server.planning.goal import Goal

WIDE = (0.3,) * 3 + (0.0,) * 3 + (1.0,)
coordinates = st.floats(-0.5, 0.5)


@settings(max_examples=15, deadline=None)
@given(
    action=st.lists(coordinates, min_size=3, max_size=3),
    radius=st.floats(0.0, 0.4),
    others=st.lists(st.lists(coordinates, min_size=3, max_size=3), min_size=8, max_size=8),
)
def test_no_allowed_action_is_nearer_than_the_projected_one(
    action: list[float], radius: float, others: list[list[float]]
) -> None:
    bounds = ActionBounds.symmetric(WIDE, l1_radius_m=radius)
    state = torch.zeros(7, dtype=torch.float64)
    wanted = torch.tensor([[*action, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    projected = project(bounds, wanted, state)
    assert float(projected.abs().sum()) <= radius + 1e-12
    tried = torch.zeros(len(others), 1, 7, dtype=torch.float64)
    tried[:, 0, :3] = torch.tensor(others)
    allowed = project(bounds, tried, state)
    assert (projected - wanted).norm() <= (allowed - wanted).flatten(1).norm(dim=1).min() + 1e-9


@settings(max_examples=15, deadline=None)
@given(
    actions=st.lists(st.lists(coordinates, min_size=7, max_size=7), min_size=3, max_size=3),
    start=st.lists(coordinates, min_size=3, max_size=3),
)
def test_projecting_twice_changes_nothing_more(
    actions: list[list[float]], start: list[float]
) -> None:
    bounds = ActionBounds.symmetric(
        (0.1, 0.2, 0.1, 0.0, 0.0, 0.3, 1.0),
        l1_radius_m=0.25,
        workspace=Workspace((-0.2, -0.2, 0.0), (0.2, 0.1, 0.3)),
        gripper=GripperRule(dead_zone=0.2),
    )
    state = torch.tensor([*start, 0, 0, 0, 0], dtype=torch.float64)
    once = project(bounds, torch.tensor([actions], dtype=torch.float64), state)
    assert contains(bounds, once, state)
    torch.testing.assert_close(project(bounds, once, state), once, rtol=0, atol=1e-9)


def test_the_workspace_counts_the_steps_before() -> None:
    bounds = ActionBounds.symmetric(WIDE, workspace=Workspace((-1, -1, -1), (0.4, 1, 1)))
    actions = torch.zeros(3, 7, dtype=torch.float64)
    actions[:, 0] = 0.3
    projected = project(bounds, actions, torch.zeros(7))
    torch.testing.assert_close(projected[:, 0], torch.tensor([0.3, 0.1, 0.0], dtype=torch.float64))


def test_from_outside_the_workspace_it_only_gets_nearer() -> None:
    bounds = ActionBounds.symmetric(WIDE, workspace=Workspace((0.0, -1, -1), (0.4, 1, 1)))
    outside = torch.tensor([-0.5, 0, 0, 0, 0, 0, 0], dtype=torch.float64)
    actions = torch.zeros(2, 1, 7, dtype=torch.float64)
    actions[:, 0, 0] = torch.tensor([-0.2, 0.2])
    projected = project(bounds, actions, outside)
    assert projected[:, 0, 0].tolist() == pytest.approx([0.0, 0.2])


def test_the_gripper_rules() -> None:
    state = torch.zeros(7)
    half = torch.zeros(3, 7)
    half[:, 6] = torch.tensor([0.1, 0.5, -0.3])

    def gripper(rule: GripperRule) -> list[float]:
        changes = project(ActionBounds.symmetric(WIDE, gripper=rule), half, state)[:, 6]
        return [round(change, 6) for change in changes.tolist()]

    assert gripper(GripperRule()) == [0.1, 0.5, -0.3]
    assert gripper(GripperRule(dead_zone=0.25)) == [0.0, 0.5, -0.3]
    assert gripper(GripperRule(close_from=1)) == [0.1, 1.0, 1.0]
    assert gripper(GripperRule(open_from=2)) == [0.1, 0.5, -1.0]


def test_equal_limits_fix_an_axis() -> None:
    bounds = ActionBounds((0.05,) + (-0.1,) * 6, (0.05,) + (0.1,) * 6)
    projected = project(bounds, torch.zeros(2, 7), torch.zeros(7))
    torch.testing.assert_close(projected[:, 0], torch.full((2,), 0.05))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionBounds((0.0,) * 6, (0.0,) * 7), "7 \\+ 7 numbers"),
        (lambda: ActionBounds((0.1,) * 7, (0.0,) * 7), "low must be at most high"),
        (lambda: ActionBounds((math.nan,) * 7, (0.0,) * 7), "dx has limits"),
        (lambda: ActionBounds.symmetric((math.inf,) * 7), "dx has limits"),
        (lambda: ActionBounds.symmetric((11.0,) * 7), "magnitudes must be below 10"),
        (lambda: ActionBounds.symmetric((0.1,) * 7, l1_radius_m=-1.0), "l1_radius_m is -1"),
        (
            lambda: ActionBounds((0.2,) * 7, (0.3,) * 7, l1_radius_m=0.3),
            "the box begins at a distance of 0.6 m",
        ),
        (lambda: Workspace((0, 0, 1), (1, 1, 0)), "is empty"),
        (lambda: Workspace((0, 0, math.nan), (1, 1, 1)), "is empty"),
        (lambda: GripperRule(dead_zone=2.0), "dead_zone"),
        (lambda: GripperRule(close_from=0, open_from=1), "one of them"),
        (lambda: GripperRule(close_from=-1), "count from 0"),
    ],
)
def test_empty_or_contradictory_bounds_are_refused(make: Any, message: str) -> None:
    with pytest.raises(BoundsError, match=message):
        make()


def test_a_forced_motion_out_of_the_workspace_is_refused() -> None:
    bounds = ActionBounds(
        (0.1,) + (0.0,) * 6, (0.2,) + (0.0,) * 6, workspace=Workspace((0, 0, 0), (0.15, 1, 1))
    )
    project(bounds, torch.zeros(1, 7), torch.zeros(7))
    with pytest.raises(BoundsError, match="out of the workspace"):
        project(bounds, torch.zeros(2, 7), torch.zeros(7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_states": torch.full((1, 7), torch.nan)}, "context_states must be finite"),
        ({"context_states": torch.zeros(1, 6)}, "context_states has shape"),
        ({"context_states": torch.zeros(7)}, "k >= 1"),
        ({"context_tokens": torch.full((2, 5), torch.inf)}, "context_tokens must be finite"),
        ({"context_tokens": torch.zeros(3, 5)}, "Encode both with the same model"),
        (
            {"context_states": torch.zeros(2, 7), "context_tokens": torch.zeros(4, 5)},
            "need context_actions",
        ),
        ({"context_actions": torch.zeros(1, 7)}, "context_actions has shape"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"warm_start": torch.zeros(2, 7)}, "warm_start has shape"),
        ({"warm_start": torch.full((1, 7), torch.nan)}, "warm_start must be finite"),
    ],
)
def test_senseless_problems_are_refused(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "context_tokens": torch.zeros(2, 5),
        "context_states": torch.zeros(1, 7),
        "goal": Goal.of(torch.zeros(2, 5)),
        "bounds": ActionBounds.symmetric(WIDE),
    }
    PlanningProblem(**fields)
    with pytest.raises(InvalidProblemError, match=message):
        PlanningProblem(**(fields | change))
