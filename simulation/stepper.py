"""The workcell stepped as fast as the machine allows: for data, evaluation and goal images.

Knows the scene and the physics; knows no task. Everything is a function of the variation and the
sequence of calls: the same calls give the same states and frames, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidTargetError
from simulation.kinematics import ARM_JOINTS, FlangeKinematics
from simulation.movables import OBJECT_JOINT, measures
from simulation.rendering import thread_renderer
from simulation.truth import MAX_WIDTH_M, PhysicsReader, Truth
from simulation.variation import WorkcellVariation
from simulation.workcell import PREFIX, SERVO_DAMPING_S, scene_xml
from trajectories.poses import compose, euler_to_matrix, matrix_to_euler

Array = NDArray[np.float64]

TIME_STEP_S = 0.004
CONTROL_STEPS = 10  # physics steps per inverse-kinematics update (40 ms)
GRIPPER_DEADBAND = 0.1
_RAMP_SHARE = 0.8  # the command arrives after this share of a move, the rest lets the arm settle
_FINGER_GAIN = 8.0  # the fingers inherit the arm's armature and need a stiffer drive
_OPEN_CONTROL = 255.0


@dataclass(frozen=True)
class Box:
    """An axis-aligned box of flange positions [m] in the base frame."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def clip(self, position_m: Array) -> Array:
        """Return the nearest position inside the box."""
        return np.clip(position_m, self.low, self.high)


# Flange positions; at the lowest the finger tips are about 1 cm above the table.
WORKSPACE = Box(low=(0.35, -0.30, 0.122), high=(0.65, 0.30, 0.52))


@dataclass(frozen=True)
class Snapshot:
    """The complete state of an `OfflineWorkcell`, as `restore` takes it."""

    physics: Array
    joints_rad: Array
    commanded: Array


class OfflineWorkcell:
    """A workcell without a clock: `reset`, `move`, `state`, `render`.

    Args:
        variation: What the workcell looks like and where its object stands.
    """

    def __init__(self, variation: WorkcellVariation) -> None:
        self.variation = variation
        self.model: Any = mujoco.MjModel.from_xml_string(scene_xml(variation))
        self.data: Any = mujoco.MjData(self.model)
        self.kinematics = FlangeKinematics(self.model)
        self._tune_actuators()
        self._arm_qpos = self._addresses(f"{PREFIX}fr3_joint{i}" for i in range(1, 8))
        self._finger_qpos = self._addresses(f"{PREFIX}finger_joint{i}" for i in (1, 2))
        self._object_qpos = int(self.model.joint(OBJECT_JOINT).qposadr[0])
        self._object_dof = int(self.model.joint(OBJECT_JOINT).dofadr[0])
        self._reader = PhysicsReader(self.model)
        self._joints = np.zeros(ARM_JOINTS)
        self._commanded = np.zeros(7)  # pose the arm was last sent to; closedness it was last told
        mujoco.mj_forward(self.model, self.data)

    def reset(self, pose: Array) -> Array:
        """Put the object at its place and the arm at rest at a flange pose `[7]`.

        Returns:
            The state `[7]` reached.

        Raises:
            UnreachablePoseError: The arm cannot reach `pose`.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.set_flange(pose)
        return self.state()

    def set_flange(self, pose: Array) -> None:
        """Teleport the arm to a flange pose `[7]` with the gripper at the pose's closedness."""
        self._joints = self.kinematics.solve(pose)
        self._commanded = np.array(pose, dtype=np.float64)
        self.data.qpos[self._arm_qpos] = self._joints
        self.data.qpos[self._finger_qpos] = (1.0 - pose[6]) * MAX_WIDTH_M / 2
        self.data.qvel[:] = 0.0
        self._write_controls()
        mujoco.mj_forward(self.model, self.data)

    def place_object(self, position_m: Array, yaw_rad: float = 0.0) -> None:
        """Teleport the object, upright, with its centre at `position_m` `[3]`."""
        start = self._object_qpos
        self.data.qpos[start : start + 3] = position_m
        self.data.qpos[start + 3 : start + 7] = (np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2))
        self.data.qvel[self._object_dof : self._object_dof + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def state(self) -> Array:
        """Return the measured state `[7]`: flange pose in the base frame and closedness."""
        return self._reader.state(self.data)

    def truth(self) -> Truth:
        """Return what a verdict may rest on and a policy must not see."""
        return self._reader.truth(self.data)

    def object_position(self) -> Array:
        """Return the centre of the object `[3]` [m] in the base frame."""
        return self._reader.object_position(self.data)

    @property
    def gripper_command(self) -> float:
        """Closedness the gripper was last told, which an object between the fingers may block."""
        return float(self._commanded[6])

    @property
    def object_height_m(self) -> float:
        """Height of the object; standing on the table its centre is at half of this."""
        return measures(self.variation).size_m[2]

    def act(self, action: Array, duration_s: float = 1.0) -> Array:
        """Apply an action `[7]` to the measured state over one control period.

        A change of closedness within +-0.1 keeps the gripper's last command, so that a held
        object stays held: its measured closedness is that of its width, not of the command.

        Returns:
            The state `[7]` afterwards.

        Raises:
            InvalidTargetError: `action` is not seven finite numbers.
        """
        _check(action)
        target = np.asarray(compose(self.state(), action), np.float64)
        if abs(action[6]) < GRIPPER_DEADBAND:
            target[6] = self._commanded[6]
        return self.move(target, duration_s)

    def move(self, target: Array, duration_s: float = 1.0) -> Array:
        """Drive the flange in a straight line to `target` `[7]` and return the state reached.

        The position is clipped to `WORKSPACE`. The closedness is a command with force behind it:
        1 presses on whatever is between the fingers.

        Raises:
            InvalidTargetError: `target` is not seven finite numbers.
        """
        _check(target)
        begin_position, begin_rotation = self._commanded[:3], euler_to_matrix(self._commanded[3:6])
        end_position, end_rotation = WORKSPACE.clip(target[:3]), euler_to_matrix(target[3:6])
        turn = matrix_to_euler(end_rotation @ begin_rotation.T)
        updates = max(1, round(duration_s / (TIME_STEP_S * CONTROL_STEPS)))
        self._commanded = np.concatenate([end_position, target[3:6], [np.clip(target[6], 0, 1)]])
        shares = np.minimum(np.arange(1, updates + 1) / (_RAMP_SHARE * updates), 1.0)[:, None]
        positions = begin_position + shares * (end_position - begin_position)
        rotations = euler_to_matrix(shares * turn) @ begin_rotation
        for position, rotation in zip(positions, rotations, strict=True):
            self._joints, _ = self.kinematics.step(self._joints, position, rotation)
            self._write_controls()
            mujoco.mj_step(self.model, self.data, CONTROL_STEPS)
        mujoco.mj_forward(self.model, self.data)
        return self.state()

    def render(self) -> NDArray[np.uint8]:
        """Return the camera frame, uint8 RGB `[256, 256, 3]`."""
        return thread_renderer().render(self.model, self.data)

    def snapshot(self) -> Snapshot:
        """Keep the complete state of physics and controller."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        return Snapshot(physics, self._joints.copy(), self._commanded.copy())

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a state kept by `snapshot` of a workcell with the same variation."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self.model, self.data, snapshot.physics, kind)
        self._joints, self._commanded = snapshot.joints_rad.copy(), snapshot.commanded.copy()
        mujoco.mj_forward(self.model, self.data)

    def _addresses(self, names: Any) -> NDArray[np.int64]:
        return np.array([int(self.model.joint(name).qposadr[0]) for name in names])

    def _tune_actuators(self) -> None:
        self.model.opt.timestep = TIME_STEP_S
        stiffness = self.model.actuator_gainprm[:ARM_JOINTS, 0]
        self.model.actuator_biasprm[:ARM_JOINTS, 2] = -SERVO_DAMPING_S * stiffness
        self.model.actuator_gainprm[ARM_JOINTS, 0] *= _FINGER_GAIN
        self.model.actuator_biasprm[ARM_JOINTS, 1:3] *= _FINGER_GAIN

    def _write_controls(self) -> None:
        self.data.ctrl[:ARM_JOINTS] = self._joints
        self.data.ctrl[ARM_JOINTS] = (1.0 - self._commanded[6]) * _OPEN_CONTROL


def _check(values: Array) -> None:
    if values.shape != (7,) or not np.isfinite(values).all():
        raise InvalidTargetError(f"{values!r} must be seven finite numbers [7]")
