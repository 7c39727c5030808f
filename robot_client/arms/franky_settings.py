"""How a Franka may move."""

from dataclasses import dataclass, field

from robot_client.arms.gripper import GripperSettings


@dataclass(frozen=True)
class FrankySettings:
    """How the arm may move.

    Attributes:
        max_speed_m_s: Cap on the flange's speed.
        max_rotation_rad_s: Cap on its angular speed.
        dynamics_factor: Share of the arm's velocity, acceleration and jerk limits that may be used.
        contact_force_n: External force at which the arm stops by itself, with a reflex [N].
        contact_torque_nm: External joint torque at which it stops by itself [Nm].
        yield_force_n: External force at which a motion ends softly, before the reflex [N]; None for
            the reflex alone.
        load_kg: Mass behind the hand that Desk does not know of [kg].
        load_centre_m: Its centre of mass, from the flange [m].
        needs_realtime: Insist on a real-time kernel; True on hardware, False for a simulator.
        gripper: How the hand moves.
    """

    max_speed_m_s: float = 0.25
    max_rotation_rad_s: float = 0.8
    dynamics_factor: float = 1.0
    contact_force_n: float = 30.0
    contact_torque_nm: float = 20.0
    yield_force_n: float | None = 20.0
    load_kg: float = 0.0
    load_centre_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    needs_realtime: bool = True
    gripper: GripperSettings = field(default_factory=GripperSettings)
