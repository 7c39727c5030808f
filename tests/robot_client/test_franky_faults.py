"""What franky-sim cannot show: reflexes, control errors and recovery, with a scripted libfranka."""

import time
from types import SimpleNamespace
from typing import Any

import franky
import numpy as np
import pytest

from robot_client.arms.frames import F_T_EE_FRANKA_HAND, end_effector_matrix
from robot_client.arms.franky_arm import FrankyArm, FrankySettings
from robot_client.errors import ArmError, ReflexError

POSE = np.array([0.5, 0.0, 0.45, np.pi, 0.0, -np.pi / 4, 0.0])


class ScriptedHand:
    halts = 0

    def halt(self) -> None:
        self.halts += 1

    def closedness(self) -> float:
        return 0.25

    def is_holding(self) -> bool:
        return True

    def end(self) -> None:
        pass


class ScriptedRobot:
    """Answers as libfranka would; `failures` come out of the next motions."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.moved: list[Any] = []
        self.stopped = 0
        self.stops_needed = 0
        self.refusals: list[Exception] = []
        self.has_errors = False
        self.is_in_control = True
        self.recovers = True
        self.mode = franky.RobotMode.Idle
        limit = SimpleNamespace(get=lambda: 1.0)
        for kind in ("translation", "rotation"):
            for order in ("velocity", "acceleration", "jerk"):
                setattr(self, f"{kind}_{order}_limit", limit)

    @property
    def state(self) -> Any:
        still = SimpleNamespace(linear=np.zeros(3), angular=np.zeros(3))
        return SimpleNamespace(
            O_T_EE=SimpleNamespace(matrix=end_effector_matrix(POSE, F_T_EE_FRANKA_HAND)),
            F_T_EE=SimpleNamespace(matrix=F_T_EE_FRANKA_HAND),
            O_dP_EE_c=still,
            O_ddP_EE_c=still,
            q=np.zeros(7),
            current_errors="[cartesian_reflex]",
            robot_mode=self.mode,
        )

    def move(self, motion: Any, asynchronous: bool) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.moved.append(motion)

    def stop(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.stopped += 1

    def join_motion(self, timeout: float) -> bool:
        if self.stopped < self.stops_needed:
            time.sleep(timeout)
        return self.stopped >= self.stops_needed

    def recover_from_errors(self) -> bool:
        self.has_errors = not self.recovers
        return self.recovers


@pytest.fixture
def robot() -> ScriptedRobot:
    return ScriptedRobot()


@pytest.fixture
def arm(robot: ScriptedRobot) -> FrankyArm:
    connected = FrankyArm("127.0.41.99", FrankySettings(), ScriptedHand())  # type: ignore[arg-type]
    connected._robot = robot
    return connected


def test_the_state_is_the_flange_with_joints_and_what_the_hand_holds(arm: FrankyArm) -> None:
    state = arm.state()
    np.testing.assert_allclose(state.pose, [*POSE[:6], 0.25], atol=1e-9)
    assert state.joints_rad is not None
    assert state.is_holding


def test_a_reflex_comes_out_as_one_and_is_not_tried_again(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.failures = [franky.ControlException("motion aborted by reflex")]
    with pytest.raises(ReflexError, match="reflex"):
        arm.move_to(POSE, 1.0)
    assert robot.moved == []


def test_a_motion_that_finds_no_way_starts_again_from_rest(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.failures = [RuntimeError("Motion planner failed with error code -111")]
    arm.move_to(POSE, 1.0)
    assert robot.stopped == 1
    assert len(robot.moved) == 1


def test_one_that_finds_no_way_from_rest_either_is_an_error_with_the_arm_stopped(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.failures = [RuntimeError("no"), RuntimeError("still no")]
    with pytest.raises(ArmError, match="still no"):
        arm.move_to(POSE, 1.0)
    assert robot.stopped == 1
    assert robot.moved == []


def test_recovery_clears_the_errors_or_says_that_it_could_not(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.has_errors = True
    arm.recover()
    assert not robot.has_errors
    robot.recovers = False
    with pytest.raises(ArmError, match="cartesian_reflex"):
        arm.recover()


def test_every_motion_carries_the_reaction_that_yields_to_a_force(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    arm.move_to(POSE, 1.0)
    assert len(robot.moved[0].reactions) == 1
    stiff = FrankyArm("h", FrankySettings(yield_force_n=None), ScriptedHand())  # type: ignore[arg-type]
    stiff._robot = robot
    stiff.move_to(POSE, 1.0)
    assert robot.moved[1].reactions == []


def test_an_arm_that_stopped_itself_on_the_way_has_not_come_to_rest(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    arm.move_to(POSE, 1.0)
    assert arm.is_moving()
    robot.has_errors = True
    with pytest.raises(ReflexError, match="cartesian_reflex"):
        arm.is_moving()
    arm.recover()
    arm.is_moving()


def test_a_stop_that_is_not_taken_is_soon_given_again(arm: FrankyArm, robot: ScriptedRobot) -> None:
    robot.stops_needed = 4
    started = time.monotonic()
    arm.stop()
    assert robot.stopped == 4
    assert time.monotonic() - started < 0.5  # a few hundredths of a second each


def test_a_stop_that_fails_is_given_again(arm: FrankyArm, robot: ScriptedRobot) -> None:
    robot.stops_needed = 1
    robot.refusals = [
        franky.InvalidOperationException("no control"),
        franky.CommandException("no"),
        RuntimeError("busy"),
    ]
    arm.stop()
    assert robot.stopped == 1


def test_an_arm_that_moves_on_after_its_stops_is_told_with_the_emergency_stop(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.stops_needed = 99
    with pytest.raises(ArmError, match=r"still moves, 1\.\d s after .* emergency stop"):
        arm.stop()
    assert robot.stopped > 2


def test_an_arm_that_takes_no_stop_is_told_with_the_emergency_stop_and_the_cause(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.refusals = [franky.NetworkException("connection lost")] * 99
    with pytest.raises(ArmError, match=r"not take the stop \(connection lost\).* emergency stop"):
        arm.stop()


def test_a_stop_reaches_the_hand_also_where_the_arm_does_not_take_it(robot: ScriptedRobot) -> None:
    hand = ScriptedHand()
    arm = FrankyArm("127.0.41.99", FrankySettings(), hand)  # type: ignore[arg-type]
    arm._robot = robot
    robot.failures = [RuntimeError("no way")]
    arm.move_to(POSE, 1.0)  # stopped and begun again from rest: the hand goes on
    assert (robot.stopped, hand.halts) == (1, 0)
    arm.stop()
    assert hand.halts == 1
    robot.refusals = [RuntimeError("no")] * 99
    with pytest.raises(ArmError):
        arm.stop()
    assert hand.halts == 2


def test_after_a_user_stop_nothing_moves_without_consent_though_it_was_released(
    arm: FrankyArm, robot: ScriptedRobot
) -> None:
    robot.mode = franky.RobotMode.UserStopped
    arm.state()  # looking goes on: somebody may be guiding the arm
    arm.is_moving()
    robot.mode = franky.RobotMode.Idle
    for _ in range(2):
        with pytest.raises(ReflexError, match="user stop"):
            arm.move_to(POSE, 1.0)
    assert robot.moved == []
    robot.mode = franky.RobotMode.UserStopped
    with pytest.raises(ArmError, match="still pressed"):
        arm.recover()
    robot.mode = franky.RobotMode.Idle
    arm.recover()
    arm.move_to(POSE, 1.0)
    assert len(robot.moved) == 1


def test_after_a_stop_the_arm_counts_as_moving_until_it_is_seen_at_rest(arm: FrankyArm) -> None:
    arm.stop()
    assert arm.is_moving()
    time.sleep(0.05)
    assert not arm.is_moving()
