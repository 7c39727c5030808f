"""An arm made of arithmetic: moves at constant speed to where it is told. For dry runs and tests."""

import time

import numpy as np
import numpy.typing as npt

from robot_client.arms.arm import ArmState
from trajectories import poses

#: Above the middle of the table, hand pointing straight down.
START_POSE = np.array([0.45, 0.0, 0.45, np.pi, 0.0, 0.0, 0.0])


class DummyArm:
    """Follows straight lines in time, knows no physics and needs no hardware."""

    def __init__(self, start_pose: npt.NDArray[np.float64] = START_POSE) -> None:
        self._start = start_pose.copy()
        self._target = start_pose.copy()
        self._start_time = 0.0
        self._duration_s = 0.0
        self.stop_count = 0
        self.hold_count = 0

    def connect(self) -> None:
        """Nothing to connect to."""

    def state(self) -> ArmState:
        """The pose on the line from start to target at this instant."""
        now = time.monotonic()
        if self._duration_s <= 0.0:
            return ArmState(self._target.copy(), now)
        fraction = min(1.0, (now - self._start_time) / self._duration_s)
        step = fraction * poses.difference(self._start, self._target)
        return ArmState(poses.compose(self._start, step).astype(np.float64), now)

    def move_to(self, pose: npt.NDArray[np.float64], duration_s: float) -> None:
        """Start on the straight line to `pose`; the gripper stays as it is."""
        now = self.state()
        self._start, self._start_time, self._duration_s = now.pose, now.t, duration_s
        self._target = pose.copy()
        self._target[poses.GRIPPER] = now.pose[poses.GRIPPER]

    def is_moving(self) -> bool:
        """Whether the end of the line is not reached yet."""
        return time.monotonic() < self._start_time + self._duration_s

    def grasp(self) -> None:
        """Close at once."""
        self._set_closedness(1.0)

    def open_gripper(self) -> None:
        """Open at once."""
        self._set_closedness(0.0)

    def is_gripper_busy(self) -> bool:
        """Never: the fingers move in no time."""
        return False

    def hold(self) -> None:
        """Stay where the line has led so far."""
        self.hold_count += 1
        self._freeze()

    def stop(self) -> None:
        """Stay where the line has led so far."""
        self.stop_count += 1
        self._freeze()

    def recover(self) -> None:
        """Nothing to clear."""

    def disconnect(self) -> None:
        """Nothing to close."""

    def _freeze(self) -> None:
        self._target, self._duration_s = self.state().pose, 0.0

    def _set_closedness(self, closedness: float) -> None:
        for pose in (self._start, self._target):
            pose[poses.GRIPPER] = closedness
