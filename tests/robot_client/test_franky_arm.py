"""The Franka driver against the simulated robot's real protocol, in a process of its own."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robot_client.arms import contact
from robot_client.arms.franky_arm import FrankyArm, FrankySettings
from robot_client.arms.gripper import GripperThread
from robot_client.arms.priority import Priority, restored
from robot_client.errors import ArmError, ReflexError
from trajectories import poses

franky = pytest.importorskip("franky")
pytest.importorskip("franky_sim")

SETTINGS = FrankySettings(max_speed_m_s=0.5, needs_realtime=False)
HOME = np.array([0.5, 0.0, 0.45, np.pi, 0.0, -np.pi / 4, 0.0])


@pytest.fixture(scope="module")
def connected(robot_host: str) -> Iterator[FrankyArm]:
    arm = FrankyArm(robot_host, SETTINGS)
    arm.connect()
    yield arm
    arm.disconnect()


@pytest.fixture
def arm(connected: FrankyArm) -> Iterator[FrankyArm]:
    """The arm at rest above the table."""
    connected.move_to(HOME, 0.5)
    wait_for_arrival(connected, HOME)
    wait_for_rest(connected)
    yield connected
    connected.hold()


def wait_for_rest(arm: FrankyArm, timeout_s: float = 10.0) -> None:
    """The simulation may be slower than time on a busy machine."""
    time.sleep(0.2)
    moved = time.monotonic()
    deadline = moved + timeout_s
    while time.monotonic() < min(moved + 0.5, deadline):
        time.sleep(0.04)
        if arm.is_moving():
            moved = time.monotonic()


def wait_for_arrival(arm: FrankyArm, target: np.ndarray, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while np.linalg.norm(arm.state().pose[:3] - target[:3]) > 1e-3:
        assert time.monotonic() < deadline, (arm.state().pose, target)
        time.sleep(0.05)


def test_the_arm_arrives_where_the_action_says_within_a_millimetre(arm: FrankyArm) -> None:
    start = arm.state().pose
    target = poses.compose(start, np.array([0.03, -0.02, 0.03, 0, 0, 0.1, 0]))
    arm.move_to(target.astype(np.float64), 1.0)
    wait_for_arrival(arm, target)
    wait_for_rest(arm)
    left = poses.difference(arm.state().pose, target)
    assert np.linalg.norm(left[:3]) < 1e-3
    assert np.linalg.norm(left[3:6]) < 1e-2


def test_a_new_target_takes_over_from_a_motion_under_way(arm: FrankyArm) -> None:
    start = arm.state().pose
    first, second = start.copy(), start.copy()
    first[1] += 0.1
    second[2] += 0.05
    arm.move_to(first, 1.0)
    time.sleep(0.3)
    arm.move_to(second, 1.0)
    wait_for_arrival(arm, second)


def test_a_small_step_brakes_the_motion_it_replaces(arm: FrankyArm) -> None:
    start = arm.state().pose
    far = start.copy()
    far[1] += 0.15
    arm.move_to(far, 0.6)
    while np.linalg.norm(arm.state().pose[:3] - start[:3]) < 0.02:
        time.sleep(0.01)
    target = arm.state().pose.copy()
    target[2] += 0.005
    arm.move_to(target, 1.0)
    farthest_m = 0.0
    resting = time.monotonic() + 2.0
    while time.monotonic() < resting:
        farthest_m = max(farthest_m, float(np.linalg.norm(arm.state().pose[:3] - target[:3])))
        time.sleep(0.02)
    assert farthest_m < 0.12
    wait_for_rest(arm)
    np.testing.assert_allclose(arm.state().pose[:3], target[:3], atol=1e-3)


@pytest.mark.parametrize("way", ["hold", "stop"])
def test_hold_and_stop_end_a_motion_and_another_may_follow(arm: FrankyArm, way: str) -> None:
    start = arm.state().pose
    target = start.copy()
    target[1] += 0.15
    arm.move_to(target, 2.0)
    time.sleep(0.6)
    before = arm.state().pose
    getattr(arm, way)()
    wait_for_rest(arm)
    after = arm.state().pose
    assert np.linalg.norm(after[:3] - before[:3]) < 0.02
    assert abs(after[1] - target[1]) > 0.03
    time.sleep(0.2)
    assert np.linalg.norm(arm.state().pose[:3] - after[:3]) < 1e-3
    arm.move_to(start, 1.0)
    wait_for_arrival(arm, start)


def test_commands_return_long_before_the_motion_ends(arm: FrankyArm) -> None:
    target = arm.state().pose
    target[0] += 0.05
    commands: list[Callable[[], None]] = [arm.hold, arm.grasp, arm.open_gripper]
    arm.move_to(target, 5.0)
    assert np.linalg.norm(arm.state().pose[:3] - target[:3]) > 0.01
    for command in commands:
        started = time.monotonic()
        command()
        assert time.monotonic() - started < 3.0
    assert np.linalg.norm(arm.state().pose[:3] - target[:3]) > 0.01  # the hold cut it short
    wait_for_gripper(arm)


def threads() -> set[int]:
    """Ids of this process's threads, franky's too."""
    return {int(thread.name) for thread in Path("/proc/self/task").iterdir()}


def test_of_all_threads_only_the_motion_s_own_is_real_time(arm: FrankyArm) -> None:
    ordinary = Priority.present()
    try:
        with restored():
            Priority(os.SCHED_FIFO, 99).take()
    except PermissionError:
        pytest.skip("needs the right to real-time priority (ulimit -r 99)")
    arm.stop()
    others = threads()
    target = arm.state().pose
    target[0] += 0.05
    arm.move_to(target, 5.0)
    assert [os.sched_getscheduler(thread) for thread in threads() - others] == [os.SCHED_FIFO]
    found: list[Priority] = []
    later = threading.Thread(target=lambda: found.append(Priority.present()))
    later.start()
    later.join()
    assert [Priority.present(), *found] == [ordinary, ordinary]


def test_an_arm_that_gives_way_says_so_until_somebody_has_consented(
    arm: FrankyArm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing touches the simulated arm; time stands in for the force.
    monkeypatch.setattr(contact, "_pushed", lambda _force_n: franky.Measure.REL_TIME > 0.2)
    start = arm.state().pose
    target = start + np.array([0.1, 0, 0, 0, 0, 0, 0])
    arm.move_to(target, 2.0)
    with pytest.raises(ReflexError, match=r"gave way \d.*cm before its target"):
        wait_for_rest(arm)
    time.sleep(0.5)
    assert np.linalg.norm(arm.state().pose[:3] - start[:3]) < 0.05
    with pytest.raises(ReflexError):
        arm.is_moving()
    monkeypatch.undo()
    arm.recover()
    arm.move_to(start, 1.0)
    wait_for_arrival(arm, start)


def wait_for_gripper(arm: FrankyArm) -> None:
    deadline = time.monotonic() + 15.0
    while arm.is_gripper_busy():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_gripper_closes_and_opens_while_the_arm_stays(arm: FrankyArm) -> None:
    where = arm.state().pose[:3]
    arm.grasp()
    assert arm.is_gripper_busy()
    wait_for_gripper(arm)
    assert arm.state().pose[6] > 0.9
    arm.open_gripper()
    wait_for_gripper(arm)
    assert arm.state().pose[6] < 0.1
    np.testing.assert_allclose(arm.state().pose[:3], where, atol=1e-3)


def test_the_speed_cap_holds_however_short_the_time(arm: FrankyArm) -> None:
    target = arm.state().pose
    target[1] += 0.3
    arm.move_to(target, 0.1)  # 3 m/s, were it allowed
    start_y = target[1] - 0.3
    samples = [(0.0, start_y)]
    deadline = time.monotonic() + 30.0
    while samples[-1][1] < start_y + 0.2:
        assert time.monotonic() < deadline
        state = arm.state()
        samples.append((state.t, state.pose[1]))
        time.sleep(0.02)
    arm.stop()
    speeds = np.diff([y for _, y in samples[1:]]) / np.diff([t for t, _ in samples[1:]])
    assert np.median(np.sort(speeds)[-5:]) < 1.1 * SETTINGS.max_speed_m_s


def test_an_arm_that_is_not_there_is_told_with_a_remedy_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(ArmError, match="FCI"):
        FrankyArm("127.0.41.99", SETTINGS).connect()
    assert time.monotonic() - started < 15.0


def test_whatever_franky_raises_is_an_arm_error() -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Motion planner failed with error code -101")

    arm = FrankyArm("127.0.41.99", SETTINGS)
    arm._robot = SimpleNamespace(move=fail, stop=fail, is_in_control=True)
    for command in (arm.hold, arm.stop):
        with pytest.raises(ArmError, match="-101"):
            command()


def test_a_hand_that_is_not_homed_is_told_with_a_remedy() -> None:
    hand = SimpleNamespace(state=SimpleNamespace(width=0.0, max_width=0.0))
    with pytest.raises(ArmError, match="home it in Desk"):
        GripperThread("127.0.41.99", SETTINGS.gripper)._read(hand)


def test_an_arm_that_is_not_connected_says_so_and_stops_harmlessly() -> None:
    arm = FrankyArm("127.0.41.99", SETTINGS)
    with pytest.raises(ArmError, match="connect"):
        arm.state()
    arm.stop()
    arm.disconnect()
