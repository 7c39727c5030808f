"""Letting the arm and its gripper move while the conversation with the server goes on."""

import logging
import time
from dataclasses import dataclass, field

import numpy as np

from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera, CapturedFrame
from robot_client.errors import ArmError, GripperStuckError, StaleFrameError
from robot_client.inquiry import Inquiry
from robot_client.records import Event
from robot_client.safety import SafetyLimits, deviation_m
from robot_client.safety.geometry import Vector
from robot_client.safety.gripper import check_opening
from robot_client.tasks import GripperAction
from trajectories import poses

logger = logging.getLogger(__name__)

_POLL_S = 0.02
_SETTLE_PERIODS = 3
_ARRIVED_M = 0.01
_FRESH_FRAME_TIMEOUT_S = 0.5  # several frames of a slow camera


@dataclass
class Motion:
    """Moves one arm for one run.

    Attributes:
        arm: Connected.
        camera: Connected.
        inquiry: Kept alive while the arm moves.
        limits: How far the arm may stray, and where the hand may open.
        gripper_timeout_s: A gripper command that takes longer is stuck.
        rest_since: When the arm came to rest last, monotonic [s].
    """

    arm: Arm
    camera: Camera
    inquiry: Inquiry
    limits: SafetyLimits
    gripper_timeout_s: float
    rest_since: float = field(default_factory=time.monotonic)

    def fresh_frame(self, max_age_s: float) -> CapturedFrame:
        """The newest frame, when it shows the arm where it rests now.

        Raises:
            StaleFrameError: It is older than `max_age_s`, or none came since the arm rests.
        """
        end = time.monotonic() + _FRESH_FRAME_TIMEOUT_S
        while True:
            try:
                captured = self.camera.newest(max_age_s)
                if captured.t_capture >= self.rest_since:
                    return captured
            except StaleFrameError:
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise StaleFrameError(
                    f"no frame in {time.monotonic() - self.rest_since:.2f} s since the arm came to "
                    "rest; check the camera's frame rate"
                )
            self.inquiry.listen(_POLL_S)

    def watch(self, period_s: float, path: tuple[Vector, Vector] | None) -> None:
        """Keep the conversation alive while the arm moves; cut the motion short in silence.

        A speed cap or a slow simulation may take the arm longer than the period. The model knows
        only arms that rest between two steps, so the next look waits, but not for ever.

        Args:
            period_s: Time that the motion may take.
            path: Start and target of the flange; None where nothing moves.

        Raises:
            ArmError: The arm has left the straight line: its controller does something else than
                it was asked.
        """
        end = time.monotonic() + period_s
        latest = end + _SETTLE_PERIODS * period_s
        is_holding = False
        target = None if path is None else path[1]
        while (now := time.monotonic()) < end or (
            now < latest and self._is_under_way(None if is_holding else target)
        ):
            self.inquiry.listen(_POLL_S if now >= end else min(end - now, _POLL_S))
            if path is not None:
                self._check_path(*path)
            if not is_holding and self.inquiry.link.client.silence_s() > period_s:
                self.inquiry.on_event(
                    Event("hold", "the server is silent; the motion is cut short")
                )
                self.arm.hold()
                is_holding = True
        self.rest_since = time.monotonic()

    def _is_under_way(self, target: Vector | None) -> bool:
        """Whether the arm moves, or has not come to its target yet: a slow simulation may stutter."""
        if self.arm.is_moving() or target is None:
            return self.arm.is_moving()
        left_m = float(np.linalg.norm(self.arm.state().pose[poses.POSITION] - target))
        return left_m > _ARRIVED_M

    def _check_path(self, start: Vector, target: Vector) -> None:
        away_m = deviation_m(self.arm.state().pose[poses.POSITION], start, target)
        if away_m > self.limits.max_deviation_m:
            raise ArmError(
                f"the arm is {100 * away_m:.0f} cm off the straight line to its target (allowed: "
                f"{100 * self.limits.max_deviation_m:.0f} cm) and has been stopped. Look at "
                "the arm; in simulation the machine may be too busy to keep up with real time"
            )

    def move_gripper(self, action: GripperAction) -> None:
        """Open or close, and wait for it with the arm standing; "hold" is nothing to do.

        Raises:
            GripperStuckError: The command takes too long.
        """
        if action == "hold":
            return
        if action == "close":
            self.arm.grasp()
        else:
            state = self.arm.state()
            found = check_opening(state.pose, is_holding=state.is_holding, limits=self.limits)
            if found is not None:
                self.inquiry.on_event(Event("refused", found.text, found.as_json()))
                return
            self.arm.open_gripper()
        self.inquiry.on_event(Event("gripper", f"the gripper is told to {action}"))
        deadline = time.monotonic() + self.gripper_timeout_s
        while self.arm.is_gripper_busy():
            if time.monotonic() > deadline:
                raise GripperStuckError(
                    f"the gripper did not {action} within {self.gripper_timeout_s:.0f} s; look "
                    "whether something blocks the fingers, and home it in Desk"
                )
            self.inquiry.listen(_POLL_S)
        self.rest_since = time.monotonic()


def distance_m(one: Vector, other: Vector) -> float:
    """Distance of two flange poses [7] [m]."""
    return float(np.linalg.norm((one - other)[poses.POSITION]))
