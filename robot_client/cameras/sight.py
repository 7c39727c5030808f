"""Whether what a camera delivers is a picture at all, and a new one."""

import numpy as np
import numpy.typing as npt

from robot_client.cameras.camera import CapturedFrame
from robot_client.errors import CameraError
from trajectories import poses

_LEAST_CONTRAST = 2.0  # standard deviation of all values, of 255; a covered lens has less
_SAMPLED_PX = 48  # rows and columns that are looked at, at least
_MOVED_M = 0.02  # so much motion in front of the camera changes some pixel
_REACH_M = 0.1  # what a turn moves at the fingertips, per radian


class Sight:
    """Holds each frame against the last different one."""

    def __init__(self) -> None:
        self._frame: npt.NDArray[np.uint8] | None = None
        self._pose: npt.NDArray[np.float64] | None = None

    def check(self, captured: CapturedFrame, pose: npt.NDArray[np.float64]) -> None:
        """Note a frame and where the flange was.

        Args:
            captured: The frame.
            pose: Flange in the base frame [7].

        Raises:
            CameraError: It is black or of one colour, or the very same as before although the arm
                has moved since, in one step or in many small ones.
        """
        check_contrast(captured.frame)
        frame, then = self._frame, self._pose
        if frame is None or then is None or not np.array_equal(frame, captured.frame):
            self._frame, self._pose = captured.frame, pose
            return
        moved = poses.difference(then, pose)
        moved_m = float(np.linalg.norm(moved[poses.POSITION]))
        turned_rad = float(np.linalg.norm(moved[poses.ROTATION]))
        if moved_m + _REACH_M * turned_rad > _MOVED_M:
            raise CameraError(
                f"the picture is frozen: not a pixel has changed while the arm moved {100 * moved_m:.1f} cm and "
                f"turned {np.degrees(turned_rad):.0f} degrees; restart the camera and see that it shows the arm"
            )


def check_contrast(frame: npt.NDArray[np.uint8]) -> None:
    """Refuse a picture that shows nothing.

    Raises:
        CameraError: It is black or of one colour.
    """
    rows, columns = (max(1, side // _SAMPLED_PX) for side in frame.shape[:2])
    sampled = frame[::rows, ::columns]  # all of a large frame would take milliseconds of each pass
    contrast = float(sampled.std())
    if contrast < _LEAST_CONTRAST:
        raise CameraError(
            f"the picture is empty (mean {sampled.mean():.0f}, contrast {contrast:.1f} of 255): is "
            "the lens covered, the exposure far off or the light out?"
        )
