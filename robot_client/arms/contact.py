"""Giving way to what the hand meets, within the arm's own millisecond, and noticing afterwards that it did."""

import time
from dataclasses import dataclass, field

import franky
import numpy as np
import numpy.typing as npt

from robot_client.errors import ReflexError

_SHORT_M = 0.002  # of the pose that was commanded, which has no error of tracking
_UNDER_WAY_S = 0.25  # after which a motion that was begun is one, or is over


def yielding(force_n: float) -> franky.Reaction:
    """End a motion softly when it meets a force."""
    return franky.Reaction(_pushed(force_n), franky.CartesianStopMotion())


@dataclass(frozen=True, eq=False)
class YieldingMotion:
    """A motion that gives way to a force; franky tells nobody that it did.

    Attributes:
        target: Pose [4, 4] of the end effector that it was sent to.
        force_n: What it gives way to [N].
        started: When it began, monotonic [s].
    """

    target: npt.NDArray[np.float64]
    force_n: float
    started: float = field(default_factory=time.monotonic)

    def check_arrival(self, commanded: npt.NDArray[np.float64]) -> None:
        """Look where the motion ended.

        Args:
            commanded: Pose [4, 4] that the arm was told to have last; where something leans on it, it may have another.

        Raises:
            ReflexError: It ended on its way.
        """
        left_m = float(np.linalg.norm((commanded - self.target)[:3, 3]))
        if left_m > _SHORT_M and time.monotonic() - self.started > _UNDER_WAY_S:
            raise ReflexError(
                f"the arm gave way {100 * left_m:.1f} cm before its target, to a force of more than "
                f"{self.force_n:g} N."
            )


def _pushed(force_n: float) -> franky.Condition:
    """Whether something pushes against the hand with more than a force."""
    force = franky.Measure.FORCE_X**2 + franky.Measure.FORCE_Y**2 + franky.Measure.FORCE_Z**2
    return force > force_n**2
