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
_SETTLE_PERIODS, _SETTLE_S = 3, 20.0  # beyond its period a motion may take the longer of the two
_RESTED_S, _CREPT_M = 1.5, 5e-4
_REACH_M = 0.1  # what a turn moves at the fingertips, per radian
_FRESH_FRAME_TIMEOUT_S = 0.5  # several frames of a slow camera


@dataclass(frozen=True)
class Arrival:
    """Where a motion ended.

    Attributes:
        left_m: Distance of the flange from its target [m]; None where nothing was to move.
        reason: Why it ended short of its target; None where it did not.
    """

    left_m: float | None = None
    reason: str | None = None

    @property
    def is_reached(self) -> bool:
        """Whether the arm is where it was sent."""
        return self.reason is None


class _Progress:
    """Notices that an arm gets no nearer to its target.

    By the way it makes, not by its speed: a simulation on a busy machine moves at a crawl, and stutters.
    """

    def __init__(self, now: float) -> None:
        self._left_m, self._since = np.inf, now

    def is_over(self, left_m: float) -> bool:
        """Note how far it has to go still; whether that has been the same for too long."""
        now = time.monotonic()
        if abs(left_m - self._left_m) > _CREPT_M:
            self._left_m, self._since = left_m, now
        return now - self._since > _RESTED_S


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

    def watch(self, period_s: float, path: tuple[Vector, Vector] | None) -> Arrival:
        """Keep the conversation alive while the arm moves; cut the motion short in silence.

        A speed cap or a slow simulation may take the arm longer than the period. The model knows
        only arms that rest between two steps, so the next look waits, but not for ever.

        Args:
            period_s: Time that the motion may take.
            path: Start and target pose [7] of the flange; None where nothing moves.

        Returns:
            Where the motion ended.

        Raises:
            ArmError: The arm has left the straight line: its controller does something else than
                it was asked.
        """
        if path is None:
            self._wait(period_s)
            return Arrival()
        reason = self._follow(period_s, *path)
        self.rest_since = time.monotonic()
        left_m, left_rad = _left(self.arm.state().pose, path[1])
        is_there = left_m <= self.limits.max_miss_m and left_rad <= self.limits.max_miss_rad
        return Arrival(left_m, None if is_there else reason or "the arm came to rest before")

    def _wait(self, period_s: float) -> None:
        end = time.monotonic() + period_s
        while (left_s := end - time.monotonic()) > 0:
            self.inquiry.listen(min(left_s, _POLL_S))
        self.rest_since = time.monotonic()

    def _follow(self, period_s: float, start: Vector, target: Vector) -> str | None:
        """Stay with a motion until it is over; returns why it was cut short, None where it was not."""
        began = time.monotonic()
        end = began + period_s
        latest = end + max(_SETTLE_PERIODS * period_s, _SETTLE_S)
        orders, reason = self.inquiry.link.client.orders.obeyed, None
        progress = _Progress(end)
        while (now := time.monotonic()) < latest:
            pose = self.arm.state().pose
            self._check_path(pose, start, target)
            if reason is None and (reason := self._cut(period_s, orders)) is not None:
                self.inquiry.on_event(Event("cut short", reason))
            left_m, left_rad = _left(pose, target)
            if now >= end:
                is_moving = self.arm.is_moving()  # raises where it has stopped itself
                is_due = reason is not None or left_m <= self.limits.max_miss_m
                if is_due and not is_moving:
                    return reason
                if progress.is_over(left_m + _REACH_M * left_rad):
                    if is_moving:
                        self.arm.hold()
                    return reason
            self.inquiry.listen(_POLL_S if now >= end else min(end - now, _POLL_S))
        self.arm.hold()
        return reason or f"it was not there {latest - began:.1f} s after its start"

    def _cut(self, period_s: float, orders: int) -> str | None:
        """Why the motion must not go on; None where it may. The arm holds then."""
        client = self.inquiry.link.client
        if client.orders.obeyed != orders:  # which has reached the arm already
            return (
                "the session was lost"
                if self.inquiry.lost
                else "the server's operator gave an order"
            )
        if client.silence_s() <= period_s:
            return None
        self.arm.hold()
        return "the server is silent"

    def _check_path(self, pose: Vector, start: Vector, target: Vector) -> None:
        ends = start[poses.POSITION], target[poses.POSITION]
        away_m = deviation_m(pose[poses.POSITION], *ends)
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


def _left(pose: Vector, target: Vector) -> tuple[float, float]:
    """What is left of the way to a flange pose [7]: metres and radians."""
    left = poses.difference(pose, target)
    return (
        float(np.linalg.norm(left[poses.POSITION])),
        float(np.linalg.norm(left[poses.ROTATION])),
    )


def distance_m(one: Vector, other: Vector) -> float:
    """Distance of two flange poses [7] [m]."""
    return float(np.linalg.norm((one - other)[poses.POSITION]))
