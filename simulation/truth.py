"""What only a simulator knows: exact poses and contacts, read from the physics.

Task verdicts and the supervisor rest on this; a policy or a client never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation.movables import OBJECT_BODY, OBJECT_SHAPE
from simulation.workcell import FLANGE_SITE, PREFIX
from trajectories.poses import matrix_to_euler

Array = NDArray[np.float64]

MAX_WIDTH_M = 0.08


@dataclass(frozen=True)
class Truth:
    """The workcell at one instant.

    Attributes:
        state: Flange pose in the base frame and gripper closedness, `[7]`.
        object_position_m: Centre of the object in the base frame, `[3]`.
        object_tilt_rad: Angle between the vertical and the object's upright axis, or for a cube the
            nearest of its axes, for a cube stands on any face.
        is_held: Both fingers touch the object.
    """

    state: Array
    object_position_m: Array
    object_tilt_rad: float
    is_held: bool


class PhysicsReader:
    """Reads the truth from any MuJoCo state of one compiled workcell.

    The state's kinematics must be up to date (`mj_forward`).
    """

    def __init__(self, model: Any) -> None:
        self._flange = int(model.site(FLANGE_SITE).id)
        self._object = int(model.body(OBJECT_BODY).id)
        self._fingers = [
            np.flatnonzero(model.geom_bodyid == model.body(f"{PREFIX}{side}_finger").id)
            for side in ("left", "right")
        ]
        shape = model.geom(OBJECT_SHAPE)
        is_box = shape.type[0] == mujoco.mjtGeom.mjGEOM_BOX
        self._is_cube = bool(is_box and np.ptp(shape.size) < 1e-6)
        self._object_geoms = np.flatnonzero(model.geom_bodyid == self._object)
        self._finger_qpos = [
            int(model.joint(f"{PREFIX}finger_joint{number}").qposadr[0]) for number in (1, 2)
        ]

    def state(self, data: Any) -> Array:
        """Return the measured state `[7]`: flange pose in the base frame and closedness."""
        euler = matrix_to_euler(data.site_xmat[self._flange].reshape(3, 3))
        width = float(data.qpos[self._finger_qpos].sum())
        closedness = np.clip(1.0 - width / MAX_WIDTH_M, 0.0, 1.0)
        return np.concatenate([data.site_xpos[self._flange], euler, [closedness]])

    def object_position(self, data: Any) -> Array:
        """Return the centre of the object `[3]` [m] in the base frame."""
        return np.array(data.xpos[self._object])

    def truth(self, data: Any) -> Truth:
        """Return everything a verdict may rest on."""
        vertical = data.xmat[self._object][6:9]
        cosine = np.abs(vertical).max() if self._is_cube else vertical[2]
        return Truth(
            state=self.state(data),
            object_position_m=self.object_position(data),
            object_tilt_rad=float(np.arccos(np.clip(cosine, -1.0, 1.0))),
            is_held=all(self._touches(data, finger) for finger in self._fingers),
        )

    def _touches(self, data: Any, finger: NDArray[np.int64]) -> bool:
        pairs = np.asarray(data.contact.geom).reshape(-1, 2)
        of_finger, of_object = np.isin(pairs, finger), np.isin(pairs, self._object_geoms)
        return bool((of_finger.any(axis=1) & of_object.any(axis=1)).any())
