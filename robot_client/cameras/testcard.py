"""A camera without a camera: colour bars with a moving mark. Shows that a link works."""

import time

import numpy as np

from robot_client.cameras.camera import CapturedFrame

_SIDE_PX = 256
_BARS = np.array(
    [[255, 255, 255], [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0]],
    np.uint8,
)


class TestCard:
    """Draws a new frame at each call; never stale."""

    __test__ = False  # the name is not for pytest

    def __init__(self) -> None:
        self._count = 0

    def connect(self) -> None:
        """Nothing to open."""

    def newest(self, max_age_s: float) -> CapturedFrame:
        """Draw the card as of now, which satisfies any `max_age_s`."""
        del max_age_s
        now = time.monotonic()
        columns = np.arange(_SIDE_PX) * len(_BARS) // _SIDE_PX
        frame = np.broadcast_to(_BARS[columns], (_SIDE_PX, _SIDE_PX, 3)).copy()
        left = int(now * 32) % (_SIDE_PX - 16)
        frame[-32:-16, left : left + 16] = 0
        self._count += 1
        frame[-1] = self._count % 256  # as no two frames of a real camera are equal
        return CapturedFrame(frame, now)

    def disconnect(self) -> None:
        """Nothing to close."""
