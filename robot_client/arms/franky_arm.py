"""A Franka over libfranka (franky): the real arm, or a simulator that speaks the same protocol.

Targets are Cartesian pose motions that franky's online trajectory generator replans from the present
velocity, so that each new plan takes over smoothly. Each motion is slowed down to just fit the
control period, and never exceeds the speed cap.
"""

import logging
import threading
import time
from collections.abc import Callable

import franky
import numpy as np
import numpy.typing as npt

from robot_client.arms import dynamics
from robot_client.arms.arm import ArmState
from robot_client.arms.contact import YieldingMotion, yielding
from robot_client.arms.frames import end_effector_matrix, flange_pose, without_jumps
from robot_client.arms.franky_settings import FrankySettings
from robot_client.arms.gripper import FRANKY_ERRORS, GripperThread
from robot_client.arms.hand import Hand, Intent
from robot_client.arms.knock import knock
from robot_client.arms.priority import Priority, restored
from robot_client.arms.stopping import stop_motion
from robot_client.errors import ArmError, ReflexError
from trajectories import poses

__all__ = ["FrankyArm", "FrankySettings"]

logger = logging.getLogger(__name__)

_RESTING_RAD_S = 0.02
_GLANCE_S = 0.03  # joints are compared over at least this time


class FrankyArm:
    """One Franka with its hand; see `arm.Arm` for what the calls promise.

    Args:
        host: The arm's address.
        settings: How it may move.
        hand: Another gripper than the Franka Hand.
    """

    def __init__(self, host: str, settings: FrankySettings, hand: Hand | None = None) -> None:
        self._host = host
        self._settings = settings
        self._gripper = hand or GripperThread(host, settings.gripper)
        self._robot: franky.Robot | None = None
        self._motion_priority = Priority.present()
        self._reading = threading.Lock()  # the film reads the state beside the loop
        self._joints_before: tuple[npt.NDArray[np.float64], float] | None = None
        self._was_moving = True
        self._yielding: YieldingMotion | None = None
        self._euler_before: npt.NDArray[np.float64] | None = None
        self._was_user_stopped = False

    def connect(self) -> None:
        """Connect to arm and hand.

        Raises:
            ArmError: Nobody listens, no real-time kernel, or the arm reports errors; the message
                says what to do.
        """
        knock(self._host)
        realtime = (
            franky.RealtimeConfig.Enforce
            if self._settings.needs_realtime
            else franky.RealtimeConfig.Ignore
        )
        try:
            with restored():
                self._robot = franky.Robot(
                    self._host,
                    relative_dynamics_factor=self._settings.dynamics_factor,
                    realtime_config=realtime,
                )
                self._motion_priority = Priority.present()
            self._prepare(self._robot)
            self._euler_before, self._was_user_stopped = None, False
        except FRANKY_ERRORS as error:
            raise ArmError(f"the arm at {self._host} refused the connection: {error}") from error
        if self._robot.has_errors:
            text = f"the arm at {self._host} reports errors: {self._robot.state.current_errors}"
            raise ReflexError(
                f"{text}. Look at the arm, then clear them in Desk or with `robot-client recover`."
            )
        self._gripper.start()

    def _prepare(self, robot: franky.Robot) -> None:
        """Set what the arm may do and when it gives way."""
        settings = self._settings
        robot.translation_velocity_limit.set(settings.max_speed_m_s)
        robot.rotation_velocity_limit.set(settings.max_rotation_rad_s)
        robot.set_collision_behavior(settings.contact_torque_nm, settings.contact_force_n)
        if settings.load_kg > 0.0:
            robot.set_load(settings.load_kg, settings.load_centre_m, [0.0] * 9)

    def state(self) -> ArmState:
        """Measured flange pose and closedness.

        Raises:
            ArmError: Arm or hand were lost.
        """
        state, now = self._robot_state(), time.monotonic()
        pose = flange_pose(state.O_T_EE.matrix, state.F_T_EE.matrix, self._gripper.closedness())
        if self._euler_before is not None:
            pose[poses.ROTATION] = without_jumps(pose[poses.ROTATION], self._euler_before)
        self._euler_before = pose[poses.ROTATION].copy()
        joints_rad = np.array(state.q, np.float64)
        return ArmState(pose, now, joints_rad, self._gripper.is_holding())

    def move_to(self, pose: npt.NDArray[np.float64], duration_s: float) -> None:
        """Start towards a flange pose [7]; takes over from a motion under way.

        Raises:
            ArmError: The arm has stopped itself (contact, limits), or its user stop was seen pressed
                since it was connected or recovered; it stays where it is.
        """
        state = self._robot_state()
        if self._was_user_stopped:
            raise ReflexError(f"the user stop of the arm at {self._host} has been pressed.")
        start = flange_pose(state.O_T_EE.matrix, state.F_T_EE.matrix, 0.0)
        action = poses.difference(start, pose)
        factor = dynamics.fitting(action, duration_s, state, self._connected(), self._settings)
        target = franky.Affine(end_effector_matrix(pose, state.F_T_EE.matrix))
        force_n = self._settings.yield_force_n

        def motion() -> franky.Motion:
            straight = franky.CartesianMotion(
                franky.CartesianState(franky.RobotPose(target)), relative_dynamics_factor=factor
            )
            if force_n is not None:
                straight.add_reaction(yielding(force_n))
            return straight

        self._start(motion)
        self._yielding = None if force_n is None else YieldingMotion(target.matrix, force_n)

    def is_moving(self) -> bool:
        """Whether any joint turned faster than `_RESTING_RAD_S` between this call and the last.

        From positions, not from the reported velocities: those chatter on a simulated arm at rest.

        Raises:
            ReflexError: It has stopped itself, or given way to a force; an arm at rest for such a
                reason has not arrived, and would push again.
        """
        self._check_errors()
        joints_rad, now = np.array(self._robot_state().q), time.monotonic()
        if self._joints_before is None:
            self._joints_before = joints_rad, now
        before_rad, then = self._joints_before
        if now - then >= _GLANCE_S:
            speed_rad_s = float(np.abs(joints_rad - before_rad).max()) / (now - then)
            self._joints_before, self._was_moving = (joints_rad, now), speed_rad_s > _RESTING_RAD_S
        if not self._was_moving:
            self._check_arrival()
        return self._was_moving

    def grasp(self) -> None:
        """Close with force."""
        self._gripper.want(Intent.GRASP)

    def open_gripper(self) -> None:
        """Open fully."""
        self._gripper.want(Intent.OPEN)

    def is_gripper_busy(self) -> bool:
        """Whether the hand still works on a command."""
        return self._gripper.is_busy()

    def hold(self) -> None:
        """Slow down to rest within the dynamics limits."""
        self._joints_before, self._was_moving, self._yielding = None, True, None
        if self._connected().is_in_control:
            self._start(franky.CartesianStopMotion)

    def stop(self) -> None:
        """Abort the motion; the arm's own controller brings it to rest at once. Then halt the hand.

        Raises:
            ArmError: It did not take the stop, or still moves though told several times.
        """
        if self._robot is None:
            return
        try:
            self._end_motion(self._robot)
        finally:
            self._gripper.halt()

    def _end_motion(self, robot: franky.Robot) -> None:
        self._joints_before, self._was_moving, self._yielding = None, True, None
        stop_motion(robot, self._host)

    def recover(self) -> None:
        """Clear the errors after a reflex; where it only gave way, or was stopped, there are none.

        Raises:
            ArmError: They stay; the arm has to be seen to.
        """
        has_reason = self._yielding is not None or self._was_user_stopped
        is_well = has_reason and not self._connected().has_errors
        self._yielding, self._was_user_stopped = None, False
        self._robot_state()
        if self._was_user_stopped:
            raise ArmError(f"the user stop of the arm at {self._host} is still pressed; release it")
        if is_well:
            return
        try:
            is_clear = self._connected().recover_from_errors()
        except FRANKY_ERRORS as error:
            raise ArmError(f"the arm at {self._host} does not recover: {error}") from error
        if not is_clear or self._connected().has_errors:
            raise ArmError(
                f"the arm at {self._host} still reports errors: "
                f"{self._robot_state().current_errors}. Clear them in Desk."
            )

    def disconnect(self) -> None:
        """Stop the arm, end the gripper's thread."""
        try:
            self.stop()
        finally:
            self._gripper.end()
            self._robot = None

    def _connected(self) -> franky.Robot:
        if self._robot is None:
            raise ArmError(f"the arm at {self._host} is not connected; call connect() first")
        return self._robot

    def _robot_state(self) -> franky.RobotState:
        try:
            with self._reading:
                state = self._connected().state
        except FRANKY_ERRORS as error:
            raise ArmError(
                f"the arm at {self._host} was lost: {error}. Look at it, check power, cable and "
                "FCI, then run again."
            ) from error
        self._was_user_stopped |= state.robot_mode == franky.RobotMode.UserStopped
        return state

    def _check_errors(self) -> None:
        """Raise `ReflexError` where the arm reports errors: a motion under way tells nobody else of its end."""
        state = self._robot_state()
        with self._reading:
            has_errors = self._connected().has_errors
        if has_errors:
            raise ReflexError(f"the arm at {self._host} stopped itself: {state.current_errors}.")

    def _check_arrival(self) -> None:
        """Raise `ReflexError` where a motion has ended by itself on its way."""
        if self._yielding is not None and not self._connected().is_in_control:
            self._yielding.check_arrival(self._robot_state().O_T_EE_d.matrix)

    def _start(self, motion: Callable[[], franky.Motion]) -> None:
        """Start a new `motion`, where need be from rest.

        The online trajectory generator now and then finds no way from a motion under way, or tells
        only now that it found none for the one before. The arm must not sail on with that one.
        """
        try:
            self._move(motion())
        except ArmError as error:
            if isinstance(error, ReflexError):
                raise
            logger.warning("%s; the arm is stopped first", error)
            self._end_motion(self._connected())
            self._move(motion())

    def _move(self, motion: franky.Motion) -> None:
        robot = self._connected()
        self._joints_before, self._was_moving = None, True
        try:
            with restored():
                self._motion_priority.take()  # franky's motion thread inherits it
                robot.move(motion, asynchronous=True)
        except franky.ControlException as error:
            raise ReflexError(f"the arm at {self._host} stopped itself: {error}.") from error
        except FRANKY_ERRORS as error:
            raise ArmError(f"the arm at {self._host} refused the motion: {error}") from error
