"""All limits at once: whatever is planned, the command that comes out keeps every one of them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from robot_client.arms import fr3_kinematics
from robot_client.safety import Box, SafetyLimits, filter_action
from robot_client.safety.geometry import fingertip_m
from trajectories import poses

PERIOD_S = 0.5
TOLERANCE = 1e-6
LIMITS = SafetyLimits(
    workspace_low_m=(0.3, -0.3, 0.1),
    workspace_high_m=(0.7, 0.3, 0.6),
    fingertip_box=Box(name="table", low_m=(0.3, -0.3, -1.0), high_m=(0.7, 0.3, 1.0)),
    keep_out=(Box(name="stand", low_m=(0.55, 0.1, 0.0), high_m=(0.65, 0.2, 0.3)),),
    min_fingertip_z_m=0.01,
    max_step_m=0.1,
    max_rotation_rad=0.4,
    max_speed_m_s=0.16,
    max_rotation_speed_rad_s=0.7,
)
NUMBERS = st.floats(-0.5, 0.5)
ACTIONS = st.lists(NUMBERS, min_size=7, max_size=7).map(np.array)
STATES = st.tuples(
    *(st.floats(0.3, 0.7), st.floats(-0.3, 0.3), st.floats(0.1, 0.6)),
    *(st.floats(2.2, 4.0), st.floats(-0.7, 0.7), st.floats(-3.0, 3.0), st.floats(0.0, 1.0)),
).map(np.array)
CHECKED_AT = np.linspace(0.0, 1.0, 200)


def violations(way: np.ndarray) -> dict[str, np.ndarray]:
    """How far each pose [K, 7] of a way is beyond each limit of place [m]."""
    flange, tip = way[:, poses.POSITION], fingertip_m(way, LIMITS.fingertip_depth_m)

    def outside(points: np.ndarray, low: object, high: object) -> np.ndarray:
        return np.maximum(np.maximum(np.array(low) - points, points - np.array(high)), 0).max(-1)

    def inside(points: np.ndarray, box: Box) -> np.ndarray:
        low = np.array(box.low_m) - LIMITS.keep_out_margin_m
        high = np.array(box.high_m) + LIMITS.keep_out_margin_m
        return np.maximum(np.minimum(points - low, high - points).min(-1), 0)

    assert LIMITS.fingertip_box is not None
    box = LIMITS.fingertip_box
    return {
        "workspace": outside(flange, LIMITS.workspace_low_m, LIMITS.workspace_high_m),
        "fingertip box": outside(tip, box.low_m, box.high_m),
        "table": np.maximum(LIMITS.min_fingertip_z_m - tip[:, 2], 0),
        "keep-out, flange": inside(flange, LIMITS.keep_out[0]),
        "keep-out, fingertips": inside(tip, LIMITS.keep_out[0]),
    }


def way_of(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    steps = CHECKED_AT[:, None] * action
    return poses.compose(np.broadcast_to(state, steps.shape), steps)


def check_size(action: np.ndarray) -> None:
    assert np.isfinite(action).all()
    assert np.abs(action[poses.POSITION]).max() <= LIMITS.max_step_m + TOLERANCE
    assert np.abs(action[poses.ROTATION]).max() <= LIMITS.max_rotation_rad + TOLERANCE
    speed_m_s = np.linalg.norm(action[poses.POSITION]) / PERIOD_S
    assert speed_m_s <= LIMITS.max_speed_m_s + 2 * TOLERANCE
    turning_rad_s = np.linalg.norm(action[poses.ROTATION]) / PERIOD_S
    assert turning_rad_s <= LIMITS.max_rotation_speed_rad_s + 2 * TOLERANCE


@given(action=ACTIONS, state=STATES)
def test_from_an_allowed_pose_the_command_keeps_every_limit_all_the_way(
    action: np.ndarray, state: np.ndarray
) -> None:
    assume(all(beyond[0] == 0.0 for beyond in violations(state[None]).values()))
    filtered = filter_action(action, state, LIMITS, period_s=PERIOD_S)
    check_size(filtered.action)
    for rule, beyond in violations(way_of(state, filtered.action)).items():
        assert beyond.max() <= 1e-4, rule  # the way is checked every 5 mm
        assert beyond[-1] <= TOLERANCE, rule
    np.testing.assert_allclose(
        poses.compose(state, filtered.action)[:6], filtered.target[:6], atol=1e-12
    )


@given(action=ACTIONS, state=STATES)
def test_from_any_pose_the_command_is_no_larger_than_allowed_and_makes_nothing_worse(
    action: np.ndarray, state: np.ndarray
) -> None:
    filtered = filter_action(action, state, LIMITS, period_s=PERIOD_S)
    check_size(filtered.action)
    for rule, beyond in violations(way_of(state, filtered.action)).items():
        assert beyond.max() <= beyond[0] + 1e-4, rule


@given(action=ACTIONS, bend=st.lists(st.floats(-0.3, 0.3), min_size=7, max_size=7))
def test_with_joints_the_command_keeps_every_limit_and_the_joints_margins(
    action: np.ndarray, bend: list[float]
) -> None:
    joints_rad = np.array([0.0, -0.4, 0.0, -2.2, 0.0, 1.9, 0.8]) + np.array(bend)
    state = fr3_kinematics.flange(joints_rad)
    assume(all(beyond[0] == 0.0 for beyond in violations(state[None]).values()))
    before = filter_action(action, state, LIMITS, period_s=PERIOD_S)
    filtered = filter_action(action, state, LIMITS, period_s=PERIOD_S, joints_rad=joints_rad)
    check_size(filtered.action)
    assert np.linalg.norm(filtered.action[:6]) <= np.linalg.norm(before.action[:6]) + TOLERANCE
    for rule, beyond in violations(way_of(state, filtered.action)).items():
        assert beyond.max() <= 1e-4, rule
    joints, missing = fr3_kinematics.follow(joints_rad, filtered.target)
    if missing < 1e-3:  # near the edge of its reach the arm cannot be followed this exactly
        assert LIMITS.joint_margin_rad is not None
        margin_rad = fr3_kinematics.joint_margin_rad(joints, LIMITS.joint_limits)
        assert margin_rad >= LIMITS.joint_margin_rad - 0.02


def test_a_turn_that_lowers_the_fingertips_is_not_made_up_for_by_too_long_a_step() -> None:
    # The turn swings the fingertips down by centimetres; raising the flange by as much would be
    # faster than allowed.
    limits = LIMITS.model_copy(update={"max_speed_m_s": 0.02})
    state = np.array([0.5, 0.0, 0.1, np.pi, 0.6, 0.0, 0.0])
    assert fingertip_m(state)[2] > LIMITS.min_fingertip_z_m - 0.03
    action = np.array([0.0, 0.0, 0.0, 0.0, -0.35, 0.0, 0.0])
    filtered = filter_action(action, state, limits, period_s=PERIOD_S)
    assert np.linalg.norm(filtered.action[:3]) / PERIOD_S <= 0.02 + 1e-6
    tips_m = fingertip_m(way_of(state, filtered.action))[:, 2]
    assert tips_m.min() >= min(LIMITS.min_fingertip_z_m, float(tips_m[0])) - 1e-6
    assert filtered.findings


@pytest.mark.parametrize("period_s", [None, PERIOD_S])
def test_the_filter_changes_nothing_of_its_own_result(period_s: float | None) -> None:
    rng = np.random.default_rng(0)
    state = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.3, 0.4])
    for action in rng.uniform(-0.3, 0.3, (50, 7)):
        once = filter_action(action, state, LIMITS, period_s=period_s)
        twice = filter_action(once.action, state, LIMITS, period_s=period_s)
        np.testing.assert_allclose(twice.action, once.action, atol=1e-5)
