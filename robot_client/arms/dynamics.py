"""How fast a motion has to be so that it just fits its time, and brakes what moves already."""

import franky
import numpy as np

from robot_client.arms.franky_settings import FrankySettings
from trajectories import poses

# Share of the control period the motion takes; the rest lets the arm settle before the next frame.
_MOVING_SHARE = 0.8
# Peak velocity, acceleration and jerk of an S-curve with T/3 to speed up and T/3 to slow down,
# for a unit distance in unit time.
_PEAK_VELOCITY, _PEAK_ACCELERATION, _PEAK_JERK = 1.5, 9.0, 54.0
_SMALLEST_FACTOR = 1e-3
_BRAKING_S = 0.1  # about how soon a motion under way may be brought to rest


def fitting(
    action: poses.Array,
    duration_s: float,
    state: franky.RobotState,
    robot: franky.Robot,
    settings: FrankySettings,
) -> franky.RelativeDynamicsFactor:
    """Factors that let `action` [7] just fit `duration_s`, or longer where a cap demands it.

    The limits also cover braking from the present motion: limits made for a small step would
    let an arm under way sail on for a metre before it may slow down. franky takes shares of what
    the robot's own factor leaves of its limits, and so do these: shares of the full limits would
    leave too little to brake with.

    Args:
        action: From where the flange is to where it is to go.
        duration_s: The control period [s].
        state: Of the moment.
        robot: Knows the limits that the factors are shares of.
        settings: Caps on the speeds, and the robot's own factor.
    """
    factor = settings.dynamics_factor
    position, rotation = action[poses.POSITION], action[poses.ROTATION]
    time_s = max(
        _MOVING_SHARE * duration_s,
        _PEAK_VELOCITY * float(np.linalg.norm(position)) / (factor * settings.max_speed_m_s),
        _PEAK_VELOCITY * float(np.linalg.norm(rotation)) / (factor * settings.max_rotation_rad_s),
    )
    velocity, acceleration = state.O_dP_EE_c, state.O_ddP_EE_c
    moving = _needed_dynamics(position, velocity.linear, acceleration.linear, time_s)
    turning = _needed_dynamics(rotation, velocity.angular, acceleration.angular, time_s)
    moving_limits = (
        robot.translation_velocity_limit,
        robot.translation_acceleration_limit,
        robot.translation_jerk_limit,
    )
    turning_limits = (
        robot.rotation_velocity_limit,
        robot.rotation_acceleration_limit,
        robot.rotation_jerk_limit,
    )
    shares = (
        max(move / move_limit.get(), turn / turn_limit.get()) / factor
        for move, move_limit, turn, turn_limit in zip(
            moving, moving_limits, turning, turning_limits, strict=True
        )
    )
    return franky.RelativeDynamicsFactor(
        *(float(np.clip(share, _SMALLEST_FACTOR, 1.0)) for share in shares)
    )


def _needed_dynamics(
    step: poses.Array, velocity: poses.Array, acceleration: poses.Array, time_s: float
) -> tuple[float, float, float]:
    """Velocity, acceleration and jerk that fit an S-curve and brake what moves already.

    franky limits each axis, and the slowest one paces the others: the largest component counts.
    """
    length, speed = float(np.abs(step).max()), float(np.abs(velocity).max())
    braking = max(speed / _BRAKING_S, float(np.abs(acceleration).max()))
    return (
        max(_PEAK_VELOCITY * length / time_s, speed),
        max(_PEAK_ACCELERATION * length / time_s**2, braking),
        max(_PEAK_JERK * length / time_s**3, 2 * braking / _BRAKING_S),
    )
