"""Keep-out boxes, the fingertips' box and the table: no point of the way is where it must not be."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from robot_client.safety import Box, SafetyLimits, filter_action
from robot_client.safety.geometry import along, depth_m, fingertip_m

STAND = Box(name="stand", low_m=(0.45, -0.05, 0.0), high_m=(0.55, 0.05, 0.35))
BAR = Box(name="bar", low_m=(0.25, 0.20, 0.37), high_m=(0.75, 0.22, 0.39))
LIMITS = SafetyLimits(keep_out=(STAND, BAR), max_speed_m_s=2.0, max_rotation_speed_rad_s=3.0)
DOWN = (np.pi, 0.0, 0.0)
NUMBERS = st.floats(-1, 1)


def flange_at(*position: float) -> np.ndarray:
    return np.array([*position, *DOWN, 0.0])


def way_of(state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, way = along(state, action, 0.001)
    return way[:, :3], fingertip_m(way)


def is_in(points: np.ndarray, box: Box) -> np.ndarray:
    return depth_m(points, np.array(box.low_m), np.array(box.high_m)) > 0


@given(
    action=st.tuples(*[NUMBERS] * 7),
    position=st.tuples(st.floats(0.26, 0.74), st.floats(-0.44, 0.44), st.floats(0.12, 0.74)),
    tilt=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_nothing_from_flange_to_fingertips_ever_passes_through_a_keep_out_box(
    action: tuple[float, ...], position: tuple[float, ...], tilt: tuple[float, float]
) -> None:
    state = np.array([*position, np.pi + tilt[0], tilt[1], 0.0, 0.0])
    shares = np.linspace(0.0, 1.0, 57)[:, None]
    start = state[:3] + shares * (fingertip_m(state) - state[:3])
    assume(not any(is_in(start, box).any() for box in (STAND, BAR)))
    filtered = filter_action(np.array(action), state, LIMITS)
    flange, tip = way_of(state, filtered.action)
    hand = flange[:, None] + shares * (tip - flange)[:, None]
    assert not any(is_in(hand, box).any() for box in (STAND, BAR))


def test_a_bar_between_flange_and_fingertips_is_not_swept_through() -> None:
    filtered = filter_action(np.array([0, 0.15, 0, 0, 0, 0, 0]), flange_at(0.5, 0.1, 0.44), LIMITS)
    assert [finding.rule for finding in filtered.findings] == ["keep-out"]
    assert 0.05 < filtered.action[1] < 0.08


@given(action=st.tuples(*[NUMBERS] * 7), inside=st.tuples(*[st.floats(0.05, 0.95)] * 3))
def test_an_arm_inside_a_keep_out_box_gets_no_deeper(
    action: tuple[float, ...], inside: tuple[float, ...]
) -> None:
    low, high = np.array(STAND.low_m), np.array(STAND.high_m)
    state = flange_at(*(low + np.array(inside) * (high - low)))
    filtered = filter_action(np.array(action), state, LIMITS)
    grown = LIMITS.keep_out_margin_m + 0.005
    depths = depth_m(way_of(state, filtered.action)[0], low - grown, high + grown)
    assert (depths <= depths[0] + 3e-3).all()  # a hair between the points that are checked


def test_an_arm_inside_a_keep_out_box_may_leave_it() -> None:
    state = flange_at(0.5, 0.06, 0.3)
    filtered = filter_action(np.array([0, 0.1, 0, 0, 0, 0, 0.0]), state, LIMITS)
    assert filtered.refusal is None
    assert filtered.target[1] == pytest.approx(0.16)


def test_a_way_across_a_keep_out_box_ends_before_it_and_it_is_said() -> None:
    state = flange_at(0.5, -0.14, 0.3)
    filtered = filter_action(np.array([0, 0.15, 0, 0, 0, 0, 0.5]), state, LIMITS)
    assert -0.08 < filtered.target[1] < -0.07 + 1e-9
    (finding,) = filtered.findings
    assert (finding.rule, finding.effect) == ("keep-out", "clamped")
    assert "stand" in finding.text
    assert filtered.action[6] == 0.5  # the fingers need no way
    np.testing.assert_array_equal(filtered.raw, [0, 0.15, 0, 0, 0, 0, 0.5])


@given(
    action=st.tuples(*[NUMBERS] * 7),
    position=st.tuples(st.floats(0.3, 0.7), st.floats(-0.3, 0.3), st.floats(0.25, 0.6)),
)
def test_fingertips_stay_in_their_box_and_above_the_table_all_the_way(
    action: tuple[float, ...], position: tuple[float, ...]
) -> None:
    box = Box(name="tray", low_m=(0.3, -0.3, 0.0), high_m=(0.7, 0.3, 0.5))
    limits = SafetyLimits(fingertip_box=box, min_fingertip_z_m=0.01)
    state = flange_at(*position)
    filtered = filter_action(np.array(action), state, limits)
    _, tip = way_of(state, filtered.action)
    low, high = np.array([0.3, -0.3, 0.01]), np.array([0.7, 0.3, 0.5])
    assert (tip >= low - 1e-3).all()  # a hair between the points that are checked
    assert (tip <= high + 1e-3).all()


@pytest.mark.parametrize(
    "values",
    [
        {"low_m": (0, 0, 0), "high_m": (0, 1, 1), "name": "flat"},
        {"low_m": (0, 0, float("nan")), "high_m": (1, 1, 1), "name": "no number"},
        {"low_m": (0, 0, 0), "high_m": (1, 1, float("inf")), "name": "endless"},
        {"low_m": (0, 0, 0), "high_m": (1, 1, 1), "name": ""},
    ],
)
def test_a_box_that_is_none_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Box(**values)  # type: ignore[arg-type]
