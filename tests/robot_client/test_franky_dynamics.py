"""How far and how fast a Franka goes on when it is stopped, or sent elsewhere, on its way."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from robot_client.arms.franky_arm import FrankyArm, FrankySettings

pytest.importorskip("franky_sim")

SETTINGS = FrankySettings(needs_realtime=False, yield_force_n=None)
#: A share of the arm's dynamics, as `--dynamics-factor` names it.
GENTLE = FrankySettings(needs_realtime=False, yield_force_n=None, dynamics_factor=0.1)


@pytest.fixture
def arm(robot_host: str, request: pytest.FixtureRequest) -> Iterator[FrankyArm]:
    """At rest; the test's parameter, where it has one, says how it may move."""
    connected = FrankyArm(robot_host, getattr(request, "param", SETTINGS))
    connected.connect()
    rest(connected)
    yield connected
    connected.disconnect()


def rest(arm: FrankyArm, timeout_s: float = 20.0) -> None:
    """Wait until the arm is where it was, and its commanded speed has died away, for a while."""
    still, deadline = time.monotonic(), time.monotonic() + timeout_s
    while time.monotonic() < still + 0.3:
        assert time.monotonic() < deadline
        if arm.is_moving() or np.abs(arm._robot_state().O_dP_EE_c.linear).max() > 1e-4:
            still = time.monotonic()
        time.sleep(0.01)


def moved(pose: np.ndarray, y_m: float) -> np.ndarray:
    target = pose.copy()
    target[1] += y_m
    return target


@pytest.mark.parametrize("arm", [GENTLE], indirect=True)
def test_a_gentle_arm_that_is_sent_elsewhere_on_its_way_keeps_its_cap_and_brakes(
    arm: FrankyArm,
) -> None:
    start = arm.state().pose
    arm.move_to(moved(start, 0.08), 0.6)
    time.sleep(0.12)
    target = moved(arm.state().pose, 0.0025)
    arm.move_to(target, 0.6)
    speeds, ys = [], []
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        speeds.append(float(np.linalg.norm(arm._robot_state().O_dP_EE_c.linear)))
        ys.append(arm.state().pose[1])
        time.sleep(0.005)
    arm.stop()
    assert max(speeds) < 1.1 * GENTLE.dynamics_factor * GENTLE.max_speed_m_s
    assert max(ys) - target[1] < 0.01


def test_a_stop_just_after_a_motion_was_begun_is_not_lost(arm: FrankyArm) -> None:
    for _ in range(10):
        start = arm.state().pose
        arm.move_to(moved(start, 0.1), 0.5)
        arm.stop()
        rest(arm)
        assert np.linalg.norm((arm.state().pose - start)[:3]) < 0.02
        arm.move_to(start, 0.5)
        rest(arm)
