"""The arm's kinematics, held against an independent library and against themselves."""

from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client.arms import fr3_kinematics
from robot_client.arms.frames import (
    F_T_EE_FRANKA_HAND,
    end_effector_matrix,
    flange_pose,
    without_jumps,
)
from robot_client.safety.geometry import fingertip_m
from trajectories import poses

LOW, HIGH = fr3_kinematics.JOINT_LIMITS_RAD["fr3"]
HOME = np.array([0.0, -0.35, 0.0, -2.2, 0.0, 1.85, np.pi / 4])
JOINTS = st.tuples(*(st.floats(low, high) for low, high in zip(LOW, HIGH, strict=True)))


def oracle() -> tuple[object, object, object]:
    pin = pytest.importorskip("pinocchio")
    urdf = resources.files("franky_sim") / "assets" / "fr3.urdf"
    if not urdf.is_file():
        pytest.skip("franky-sim carries no fr3.urdf")
    model = pin.buildModelFromUrdf(str(urdf))
    return pin, model, model.createData()


def test_flange_and_jacobian_are_those_of_pinocchio_on_franka_s_own_description() -> None:
    pin, model, data = oracle()
    frame = model.getFrameId("fr3_link8")
    rng = np.random.default_rng(0)
    for _ in range(50):
        joints = rng.uniform(LOW, HIGH)
        full = np.zeros(model.nq)
        full[:7] = joints
        pin.framesForwardKinematics(model, data, full)
        placement = data.oMf[frame]
        mine = fr3_kinematics.flange(joints)
        np.testing.assert_allclose(mine[:3], placement.translation, atol=1e-6)
        np.testing.assert_allclose(poses.euler_to_matrix(mine[3:6]), placement.rotation, atol=1e-6)
        theirs = pin.computeFrameJacobian(
            model, data, full, frame, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        frames = fr3_kinematics.link_frames(joints)
        np.testing.assert_allclose(fr3_kinematics.jacobian(frames), theirs[:, :7], atol=1e-6)


@given(JOINTS)
def test_the_jacobian_is_the_slope_of_the_flange(joints: tuple[float, ...]) -> None:
    q, step = np.array(joints), 1e-6
    columns = fr3_kinematics.jacobian(fr3_kinematics.link_frames(q))
    for joint in range(7):
        moved = q.copy()
        moved[joint] += step
        change = fr3_kinematics.flange(moved)[:3] - fr3_kinematics.flange(q)[:3]
        np.testing.assert_allclose(change / step, columns[:3, joint], atol=1e-5)


@given(st.tuples(*[st.floats(-0.05, 0.05)] * 3), st.tuples(*[st.floats(-0.1, 0.1)] * 3))
def test_following_a_small_step_arrives_and_changes_the_joints_little(
    translation: tuple[float, ...], rotation: tuple[float, ...]
) -> None:
    start = fr3_kinematics.flange(HOME)
    target = poses.compose(start, np.array([*translation, *rotation, 0.0])).astype(np.float64)
    joints, missing = fr3_kinematics.follow(HOME, target)
    assert missing < 1e-4
    assert np.abs(joints - HOME).max() < 0.6
    left = poses.difference(fr3_kinematics.flange(joints), target)
    assert np.abs(left[:6]).max() < 1e-4


@given(JOINTS, st.floats(0, 1))
def test_flange_and_end_effector_convert_into_each_other(
    joints: tuple[float, ...], closedness: float
) -> None:
    pose = fr3_kinematics.flange(np.array(joints), closedness)
    O_T_EE = end_effector_matrix(pose, F_T_EE_FRANKA_HAND)
    back = flange_pose(O_T_EE, F_T_EE_FRANKA_HAND, closedness)
    assert np.abs(poses.difference(pose, back)).max() < 1e-6
    # The Franka Hand's frame lies 103.4 mm out along the flange's z axis, the tips 9 mm further.
    assert np.linalg.norm(O_T_EE[:3, 3] - pose[:3]) == pytest.approx(0.1034)
    assert np.linalg.norm(fingertip_m(pose) - O_T_EE[:3, 3]) == pytest.approx(0.009, abs=1e-6)


def test_margins_say_how_near_a_limit_and_a_singularity_are() -> None:
    assert fr3_kinematics.joint_margin_rad(LOW, "fr3") == pytest.approx(0.0)
    assert fr3_kinematics.joint_margin_rad(LOW - 0.1, "fr3") == pytest.approx(-0.1)
    assert fr3_kinematics.joint_margin_rad(HOME, "fr3") > 0.3
    stretched = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert fr3_kinematics.smallest_singular_value(stretched) < 1e-6
    assert fr3_kinematics.smallest_singular_value(HOME) > 0.05


@given(
    st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)),
    st.tuples(*[st.floats(-0.2, 0.2)] * 3),
)
def test_angles_without_jumps_are_the_same_rotation_near_the_one_before(
    before: tuple[float, ...], change: tuple[float, ...]
) -> None:
    earlier = np.array(before)
    moved = earlier + np.array([change[0], 0.0, change[2]])
    canonical = poses.matrix_to_euler(poses.euler_to_matrix(moved)).astype(np.float64)
    near = without_jumps(canonical, earlier)
    np.testing.assert_allclose(poses.euler_to_matrix(near), poses.euler_to_matrix(moved), atol=1e-9)
    assert np.abs(near - earlier).max() < 0.2 + 1e-6
