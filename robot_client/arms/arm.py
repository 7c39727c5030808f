"""What the control loop asks of an arm.

Every call returns within milliseconds: motions and gripper commands run on by themselves and a new
one replaces the old. Poses are [7], flange in the base frame: x y z [m], roll pitch yaw extrinsic
xyz [rad], gripper closedness 0 (open) to 1 (closed).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class ArmState:
    """The arm at one instant.

    Attributes:
        pose: Measured flange pose [7].
        t: `time.monotonic()` when it was read [s].
        joints_rad: Joint angles [7]; None where the arm does not tell.
        is_holding: The gripper has closed on something.
    """

    pose: npt.NDArray[np.float64]
    t: float
    joints_rad: npt.NDArray[np.float64] | None = None
    is_holding: bool = False


class Arm(Protocol):
    """A position-controlled arm with a two-finger gripper."""

    def connect(self) -> None:
        """Open the connection; nothing moves. Raises `ArmError` with the remedy."""

    def state(self) -> ArmState:
        """Read the measured state."""

    def move_to(self, pose: npt.NDArray[np.float64], duration_s: float) -> None:
        """Start towards a flange pose [7] so as to arrive within `duration_s`.

        The gripper entry is ignored. A speed cap may make it take longer. Replaces a motion that is
        under way.
        """

    def is_moving(self) -> bool:
        """Whether the arm still moves noticeably."""

    def grasp(self) -> None:
        """Close with force and keep squeezing, whatever lies between the fingers."""

    def open_gripper(self) -> None:
        """Open fully."""

    def is_gripper_busy(self) -> bool:
        """Whether a gripper command is still under way."""

    def hold(self) -> None:
        """Come to rest smoothly and stay there; harmless when at rest."""

    def stop(self) -> None:
        """Halt the arm at once, and fingers under way where they can be.

        The gripper keeps its grip, so that nothing is dropped.
        """

    def recover(self) -> None:
        """Clear the errors of an arm that has stopped itself; only with the operator's consent.

        Raises `ArmError` when it does not come back.
        """

    def disconnect(self) -> None:
        """Stop and close the connection; harmless when not connected."""
