"""Whether what a camera delivers is a picture at all, and a new one."""

import numpy as np
import numpy.typing as npt

from robot_client.cameras.camera import CapturedFrame
from robot_client.errors import CameraError

_LEAST_CONTRAST = 2.0  # standard deviation of all values, of 255; a covered lens has less
_SAMPLED_PX = 48  # rows and columns that are looked at, at least
_MOVED_M = 0.02  # so much motion in front of the camera changes some pixel


class Sight:
    """Holds each frame against the one before."""

    def __init__(self) -> None:
        self._frame: npt.NDArray[np.uint8] | None = None
        self._position_m: npt.NDArray[np.float64] | None = None

    def check(self, captured: CapturedFrame, position_m: npt.NDArray[np.float64]) -> None:
        """Note a frame and where the flange was.

        Args:
            captured: The frame.
            position_m: Flange in the base frame [3].

        Raises:
            CameraError: It is black or of one colour, or the very same as before although the arm
                has moved.
        """
        check_contrast(captured.frame)
        before, self._frame = self._frame, captured.frame
        then_m, self._position_m = self._position_m, position_m
        if before is None or then_m is None:
            return
        moved_m = float(np.linalg.norm(position_m - then_m))
        if moved_m > _MOVED_M and np.array_equal(before, captured.frame):
            # The next frame must differ from the last one that was true.
            self._frame, self._position_m = before, then_m
            raise CameraError(
                f"the picture is frozen: not a pixel has changed while the arm moved "
                f"{100 * moved_m:.1f} cm; restart the camera and see that it shows the arm"
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
