"""Whatever the planner says, what leaves the filter is finite, small and inside the cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robot_client.protocol import Act
from robot_client.safety import (
    Asked,
    SafetyLimits,
    deviation_m,
    filter_action,
    filter_plan,
    fingertip_z_m,
)

LIMITS = SafetyLimits(max_step_m=0.1, max_rotation_rad=0.2)
INSIDE = np.array([0.5, 0.0, 0.4, np.pi, 0.0, 0.3, 0.2])
WILD = st.floats(allow_nan=True, allow_infinity=True, width=64)
NUMBERS = st.floats(-10, 10)
ASKED = Asked(session="s1", seq=4, goal_index=0, age_s=0.5, drift_m=0.001)


def act(**changes: object) -> Act:
    values: dict[str, object] = {
        "session": "s1",
        "seq": 4,
        "actions": np.array([[0.05, 0, 0, 0, 0, 0, 0]]),
        "predicted_states": np.zeros((1, 7)),
        "energy": 0.1,
        "energy_now": 0.2,
        "encode_ms": 1.0,
        "plan_ms": 1.0,
        "queue_ms": 0.0,
        "evaluations": 1,
    }
    return Act(**{**values, **changes})  # type: ignore[arg-type]


@given(st.lists(WILD, min_size=7, max_size=7))
def test_any_seven_numbers_give_a_finite_bounded_action_or_a_refusal(numbers: list[float]) -> None:
    action = np.array(numbers)
    filtered = filter_action(action, INSIDE, LIMITS)
    assert np.isfinite(filtered.action).all()
    assert np.isfinite(filtered.target).all()
    assert np.abs(filtered.action[:3]).max() <= LIMITS.max_step_m + 1e-5
    assert (filtered.refusal is None) == bool(np.isfinite(action).all())
    if filtered.refusal is not None:
        np.testing.assert_array_equal(filtered.target, INSIDE)


@given(
    action=st.lists(NUMBERS, min_size=7, max_size=7),
    position=st.tuples(st.floats(0.25, 0.75), st.floats(-0.45, 0.45), st.floats(0.13, 0.7)),
)
def test_from_inside_the_target_is_inside_and_above_the_table(
    action: list[float], position: tuple[float, float, float]
) -> None:
    state = np.array([*position, np.pi, 0.0, 0.0, 0.5])
    filtered = filter_action(np.array(action), state, LIMITS)
    assert (filtered.target[:3] >= np.array(LIMITS.workspace_low_m) - 1e-9).all()
    assert (filtered.target[:2] <= np.array(LIMITS.workspace_high_m[:2]) + 1e-9).all()
    assert fingertip_z_m(filtered.target) >= LIMITS.min_fingertip_z_m - 1e-9
    assert 0.0 <= filtered.target[6] <= 1.0


@given(action=st.lists(NUMBERS, min_size=7, max_size=7), position=st.tuples(*[NUMBERS] * 3))
def test_from_outside_the_arm_may_come_in_but_never_goes_further_out(
    action: list[float], position: tuple[float, float, float]
) -> None:
    state = np.array([*position, np.pi, 0.0, 0.0, 0.5])
    target = filter_action(np.array(action), state, LIMITS).target
    low, high = np.array(LIMITS.workspace_low_m), np.array(LIMITS.workspace_high_m)

    outside = np.maximum(np.maximum(low - target[:3], target[:3] - high), 0.0)
    outside_before = np.maximum(np.maximum(low - state[:3], state[:3] - high), 0.0)
    assert (outside <= outside_before + 1e-9).all()


def test_an_action_within_the_limits_passes_unchanged() -> None:
    action = np.array([0.05, -0.1, 0.02, 0.0, 0.0, 0.1, 0.3])
    filtered = filter_action(action, INSIDE, LIMITS)
    np.testing.assert_allclose(filtered.action, action, atol=1e-12)
    assert filtered.warnings == ()


def test_a_step_that_is_too_long_keeps_its_direction() -> None:
    filtered = filter_action(np.array([0.2, -0.4, 0, 0, 0, 0.8, 0]), INSIDE, LIMITS)
    np.testing.assert_allclose(filtered.action[:3], [0.05, -0.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(filtered.action[3:6], [0.0, 0.0, 0.2], atol=1e-12)
    assert len(filtered.warnings) == 2


def test_the_fingertips_stay_off_the_table_and_it_is_said() -> None:
    low = INSIDE.copy()
    low[2] = 0.14
    filtered = filter_action(np.array([0, 0, -0.1, 0, 0, 0, 0.0]), low, LIMITS)
    assert fingertip_z_m(filtered.target) == pytest.approx(LIMITS.min_fingertip_z_m)
    assert any("fingertips" in warning for warning in filtered.warnings)


@pytest.mark.parametrize("shape", [(6,), (8,), (1, 7), (0,)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    assert filter_action(np.zeros(shape), INSIDE, LIMITS).refusal is not None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Asked("s2", 4, 0, 0.5, 0.0), "session"),
        (Asked("s1", 5, 0, 0.5, 0.0), "observation 4"),
        (Asked("s1", 3, 0, 0.5, 0.0), "observation 4"),
        (Asked("s1", 4, 1, 0.5, 0.0), "goal 0"),
        (Asked("s1", 4, 0, 10.5, 0.0), "old"),
        (Asked("s1", 4, 0, float("nan"), 0.0), "old"),
        (Asked("s1", 4, 0, 0.5, 0.03), "moved 3.0 cm"),
        (Asked("s1", 4, 0, 0.5, float("nan")), "moved"),
    ],
)
def test_a_plan_for_something_else_is_refused(asked: Asked, reason: str) -> None:
    filtered = filter_plan(act(), INSIDE, asked, LIMITS)
    assert filtered.refusal is not None
    assert reason in filtered.refusal
    assert not filtered.action.any()


def test_the_plan_that_was_asked_for_passes() -> None:
    filtered = filter_plan(act(), INSIDE, ASKED, LIMITS)
    assert filtered.refusal is None
    np.testing.assert_allclose(filtered.target[:3], [0.55, 0.0, 0.4])


@pytest.mark.parametrize(
    "values",
    [
        {"max_step_m": float("nan")},
        {"max_step_m": float("inf")},
        {"max_step_m": 0},
        {"workspace_low_m": (0.8, -0.4, 0.1)},
        {"workspace_low_m": (float("nan"), -0.4, 0.1)},
        {"max_speed": 1.0},
    ],
)
def test_limits_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SafetyLimits(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_point_on_the_way_does_not_deviate_and_one_beside_it_does(share: float) -> None:
    start, target = np.array([0.4, 0.0, 0.3]), np.array([0.5, 0.1, 0.3])
    on_way = start + share * (target - start)
    assert deviation_m(on_way, start, target) == pytest.approx(0.0, abs=1e-12)
    assert deviation_m(on_way + np.array([0.0, 0.0, 0.2]), start, target) == pytest.approx(0.2)


def test_overshooting_the_target_is_a_deviation() -> None:
    start, target = np.zeros(3), np.array([0.1, 0.0, 0.0])
    assert deviation_m(np.array([0.25, 0.0, 0.0]), start, target) == pytest.approx(0.15)
    assert deviation_m(np.array([0.05, 0.0, 0.0]), start, start) == pytest.approx(0.05)
