"""A recorded episode as an arm and a camera: time goes on in it only while the arm is told to move.

Where the recording leads, the arm goes, whatever it is told: the planner is shown what a robot saw,
at the pace of the loop, and nothing can be hurt.
"""

import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot_client.arms.arm import ArmState
from robot_client.cameras.camera import CapturedFrame
from robot_client.errors import ArmError, CameraError
from trajectories.dataset import open_episode
from trajectories.errors import TrajectoryError

_JOINTS = "observation/robot_state/joint_positions"


class Playback:
    """An open episode and the moment in it; shared by arm and camera.

    Args:
        path: An episode folder or file, or PATH#INDEX for one of many.
        view: Camera to show; None for the first.
    """

    def __init__(self, path: Path, view: str | None = None) -> None:
        try:
            self._episode = open_episode(path)
            views = list(self._episode.cameras)
            self._view = view or (views[0] if views else "")
            self._camera = self._episode.camera(self._view)
        except TrajectoryError as error:
            raise ArmError(f"{path} cannot be played: {error}") from error
        self.times_s = self._episode.times_s
        self._lock = threading.Lock()
        self._row_shown = -1
        self._frame: npt.NDArray[np.uint8] | None = None
        self._at_s = 0.0
        self._playing_since: float | None = None
        self._until_s = 0.0

    def play(self, duration_s: float) -> None:
        """Let recorded time go on for `duration_s`, at the pace of real time."""
        with self._lock:
            self._at_s = self._now_s()
            self._playing_since = time.monotonic()
            self._until_s = min(self._at_s + duration_s, float(self.times_s[-1]))

    def freeze(self) -> None:
        """Stop recorded time."""
        with self._lock:
            self._at_s, self._playing_since = self._now_s(), None

    def is_playing(self) -> bool:
        """Whether recorded time goes on."""
        with self._lock:
            return self._playing_since is not None and self._now_s() < self._until_s

    def is_over(self) -> bool:
        """Whether the last row is reached."""
        with self._lock:
            return self._now_s() >= float(self.times_s[-1])

    def state(self) -> npt.NDArray[np.float64]:
        """Recorded pose [7] of the moment."""
        return np.array(self._episode.states[self._row()], np.float64)

    def joints_rad(self) -> npt.NDArray[np.float64] | None:
        """Recorded joint angles [7] of the moment; None where the episode has none."""
        joints = self._episode.signals.get(_JOINTS)
        return None if joints is None else np.array(joints[self._row()], np.float64)

    def frame(self) -> npt.NDArray[np.uint8]:
        """Recorded frame of the moment."""
        row = self._row()
        with self._lock:
            if self._frame is None or row != self._row_shown:
                try:
                    self._frame = self._camera.read([row])[0]
                except TrajectoryError as error:
                    raise CameraError(f"frame {row} of the episode: {error}") from error
                self._row_shown = row
            return self._frame

    def close(self) -> None:
        """Free the episode's files."""
        self._episode.close()

    def _row(self) -> int:
        with self._lock:
            now_s = self._now_s()
        return max(0, int(np.searchsorted(self.times_s, now_s + 1e-9, side="right")) - 1)

    def _now_s(self) -> float:
        if self._playing_since is None:
            return self._at_s
        return min(self._at_s + time.monotonic() - self._playing_since, self._until_s)


class ReplayArm:
    """Goes where the recorded arm went, one control period per command."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def connect(self) -> None:
        """The episode is open already."""

    def state(self) -> ArmState:
        """The recorded pose of the moment."""
        return ArmState(self._playback.state(), time.monotonic(), self._playback.joints_rad())

    def move_to(self, pose: npt.NDArray[np.float64], duration_s: float) -> None:
        """Let recorded time go on; `pose` is only what the planner would have done.

        Raises:
            ArmError: The episode is over.
        """
        del pose
        if self._playback.is_over():
            raise ArmError("the recorded episode is over")
        self._playback.play(duration_s)

    def is_moving(self) -> bool:
        """Whether recorded time goes on."""
        return self._playback.is_playing()

    def grasp(self) -> None:
        """The recorded fingers do what they did."""

    def open_gripper(self) -> None:
        """The recorded fingers do what they did."""

    def is_gripper_busy(self) -> bool:
        """Never."""
        return False

    def hold(self) -> None:
        """Stop recorded time."""
        self._playback.freeze()

    def stop(self) -> None:
        """Stop recorded time."""
        self._playback.freeze()

    def recover(self) -> None:
        """Nothing to clear."""

    def disconnect(self) -> None:
        """Stop recorded time and free the episode."""
        self._playback.freeze()
        self._playback.close()


class ReplayCamera:
    """Shows the recorded frame of the moment."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def connect(self) -> None:
        """The episode is open already."""

    def newest(self, max_age_s: float) -> CapturedFrame:
        """The frame of the moment, which satisfies any `max_age_s`: recorded time stands still."""
        del max_age_s
        return CapturedFrame(self._playback.frame(), time.monotonic())

    def disconnect(self) -> None:
        """The arm frees the episode."""
