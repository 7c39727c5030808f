"""Speed, joints, energy, surprise, gripper: each rule by its law."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client.arms import fr3_kinematics
from robot_client.protocol import Act
from robot_client.safety import (
    Asked,
    EnergyWatch,
    SafetyLimits,
    check_surprise,
    filter_action,
    filter_plan,
    fingertip_z_m,
)
from robot_client.safety.gripper import check_opening
from trajectories import poses

HOME = np.array([0.0, -0.35, 0.0, -2.2, 0.0, 1.85, np.pi / 4])
WIDE = SafetyLimits(
    workspace_low_m=(-1.0, -1.0, -0.5), workspace_high_m=(1.0, 1.0, 1.5), min_fingertip_z_m=-1.0
)
NUMBERS = st.floats(-10, 10)


@given(action=st.tuples(*[NUMBERS] * 7), period_s=st.floats(0.05, 5.0), cap=st.floats(0.05, 1.0))
def test_the_mean_speed_never_exceeds_the_cap(
    action: tuple[float, ...], period_s: float, cap: float
) -> None:
    limits = WIDE.model_copy(update={"max_speed_m_s": cap, "max_rotation_speed_rad_s": cap})
    state = fr3_kinematics.flange(HOME)
    filtered = filter_action(np.array(action), state, limits, period_s=period_s)
    assert np.linalg.norm(filtered.action[:3]) <= (cap + 1e-5) * period_s
    assert np.linalg.norm(filtered.action[3:6]) <= (cap + 1e-5) * period_s


def near_a_limit(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = fr3_kinematics.JOINT_LIMITS_RAD["fr3"]
    joints = HOME + rng.uniform(-0.4, 0.4, 7)
    joint = int(rng.integers(7))
    joints[joint] = rng.choice([low[joint] + 0.06, high[joint] - 0.06])
    return np.clip(joints, low + 0.06, high - 0.06)


@given(seed=st.integers(0, 10_000), action=st.tuples(*[st.floats(-0.15, 0.15)] * 6))
def test_no_action_leads_nearer_to_a_joint_limit_than_allowed(
    seed: int, action: tuple[float, ...]
) -> None:
    joints = near_a_limit(seed)
    state = fr3_kinematics.flange(joints)
    filtered = filter_action(np.array([*action, 0.0]), state, WIDE, joints_rad=joints)
    arrived = joints
    for fraction in np.linspace(0.25, 1.0, 4):
        pose = poses.compose(state, fraction * filtered.action).astype(np.float64)
        arrived, _ = fr3_kinematics.follow(arrived, pose, 12)
    margin = fr3_kinematics.joint_margin_rad(arrived, "fr3")
    smallest = fr3_kinematics.smallest_singular_value(arrived)
    before = fr3_kinematics.smallest_singular_value(joints)
    assert margin > WIDE.joint_margin_rad - 0.02  # type: ignore[operator]
    assert smallest > min(WIDE.min_singular_value, before) - 0.02  # type: ignore[type-var]


def test_an_arm_without_joints_and_limits_without_margins_skip_the_rule() -> None:
    joints = near_a_limit(3)
    state = fr3_kinematics.flange(joints)
    action = np.array([0.1, 0.1, 0.1, 0, 0, 0, 0])
    free = WIDE.model_copy(update={"joint_margin_rad": None, "min_singular_value": None})
    assert filter_action(action, state, free, joints_rad=joints).findings == ()
    assert filter_action(action, state, WIDE).findings == ()


def test_a_step_out_of_reach_is_cut_short_with_a_reason() -> None:
    joints = np.array([0.0, 0.9, 0.0, -0.6, 0.0, 1.6, 0.8])
    state = fr3_kinematics.flange(joints)
    outward = np.array([0.15, 0, 0, 0, 0, 0, 0.0])
    filtered = filter_action(outward, state, WIDE, joints_rad=joints)
    assert filtered.action[0] < 0.15
    assert filtered.findings[0].rule == "joints"
    inward = filter_action(-outward, state, WIDE, joints_rad=joints)
    assert inward.findings == ()


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(2, 6))
def test_the_energy_watch_fires_exactly_when_the_last_k_plans_all_rose(
    energies: list[float], k: int
) -> None:
    limits = SafetyLimits(max_energy_rises=k)
    watch = EnergyWatch()
    for count in range(1, len(energies) + 1):
        watch = watch.note(energies[count - 1])
        last = energies[:count][-(k + 1) :]
        is_rising = len(last) == k + 1 and all(b > a for a, b in itertools.pairwise(last))
        assert (watch.check(limits) is not None) == is_rising
    assert watch.check(SafetyLimits(max_energy_rises=None)) is None


@given(st.floats(0, 10), st.floats(0.01, 10))
def test_surprise_is_refused_above_the_limit_only(surprise: float, limit: float) -> None:
    limits = SafetyLimits(max_surprise=limit)
    assert (check_surprise(surprise, limits) is not None) == (surprise > limit)
    assert check_surprise(None, limits) is None
    assert check_surprise(surprise, SafetyLimits()) is None


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


def test_a_surprising_frame_and_a_plan_executed_before_are_refused_with_their_rule() -> None:
    state = fr3_kinematics.flange(HOME)
    limits = SafetyLimits(max_surprise=0.3)
    asked = Asked("s1", 4, 0, 0.1, 0.0)
    surprised = filter_plan(act(surprise=0.5), state, asked, limits)
    assert [found.rule for found in surprised.findings] == ["surprise"]
    assert filter_plan(act(surprise=0.2), state, asked, limits).refusal is None
    again = filter_plan(act(), state, Asked("s1", 4, 0, 0.1, 0.0, executed_seq=4), limits)
    assert [found.rule for found in again.findings] == ["duplicate"]
    np.testing.assert_array_equal(again.raw, act().actions[0])
    assert not again.action.any()


@given(st.floats(0.12, 0.8), st.booleans())
def test_a_hand_that_holds_something_opens_only_low_enough(height: float, is_holding: bool) -> None:
    limits = SafetyLimits(max_open_height_m=0.06)
    state = np.array([0.5, 0.0, height, np.pi, 0.0, 0.0, 0.5])
    finding = check_opening(state, is_holding=is_holding, limits=limits)
    assert (finding is not None) == (is_holding and fingertip_z_m(state) > 0.06)
    assert check_opening(state, is_holding=True, limits=SafetyLimits()) is None


def test_findings_are_plain_values_for_the_recorder() -> None:
    filtered = filter_action(np.full(7, 9.0), fr3_kinematics.flange(HOME), SafetyLimits())
    for found in filtered.findings:
        assert set(found.as_json()) == {"rule", "effect", "text", "value", "limit"}
    assert filtered.warnings
    assert filtered.findings[0].value == pytest.approx(9.0)
