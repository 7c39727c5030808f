"""Exploring how one camera turns the planner's axes: a few small moves, then questions about them."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_client.arms.arm import Arm, ArmState
from robot_client.axes import Axes, Matrix, fit_axes
from robot_client.cameras.camera import Camera, CapturedFrame
from robot_client.codec import encode_image
from robot_client.errors import CameraError, RecordingError
from robot_client.planner_client import PlannerClient
from robot_client.protocol import Act, Observe
from robot_client.rest import RestClient, SessionOptions
from robot_client.safety import SafetyLimits, filter_action
from robot_client.safety.geometry import Vector
from robot_client.server_link import ServerLink
from trajectories import poses

logger = logging.getLogger(__name__)

_SETTLE_S = 0.4
_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 30.0
_LEAST_SHARE = 0.5  # of a move that safety must leave for it to be worth the time


@dataclass(frozen=True, eq=False)
class Move:
    """One exploratory move: what was seen before and after, and how the flange went [3] [m]."""

    before: CapturedFrame
    after: CapturedFrame
    start: ArmState
    displacement_m: Vector


def directions(*, full: bool) -> list[Vector]:
    """Unit displacements to explore: there and back along x, y and the diagonals, and z if `full`."""
    planar = [(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0), (0.7, 0.7, 0), (-0.7, 0.7, 0)]
    vertical = [(0, 0, 1), (0, 0, -1)] if full else []
    return [np.array(way, np.float64) for way in planar + vertical]


@dataclass(eq=False)
class Explorer:
    """Makes the moves.

    Attributes:
        arm: Connected, allowed to move.
        camera: Connected.
        limits: What every move is held against.
        step_m: Length of a move.
        period_s: Time of a move.
        say: Tells the person.
    """

    arm: Arm
    camera: Camera
    limits: SafetyLimits
    step_m: float
    period_s: float
    say: Callable[[str], None]

    def explore(self, ways: Sequence[Vector]) -> list[Move]:
        """Go each way and back, and look at both ends.

        Raises:
            RecordingError: The limits leave no room to move.
            ArmError, CameraError: Arm or camera failed; the arm is stopped.
        """
        moves: list[Move] = []
        try:
            for way in ways:
                move = self._there_and_back(self.step_m * way)
                moves += [] if move is None else [move]
        finally:
            self.arm.stop()
        if not moves:
            raise RecordingError("the limits leave no room for a single move; start further inside")
        return moves

    def _there_and_back(self, displacement_m: Vector) -> Move | None:
        before, start = self._look()
        target = self._target(start, displacement_m)
        if target is None:
            self.say(f"no room to move by {np.round(displacement_m, 3).tolist()} m")
            return None
        self._go(target)
        after, end = self._look()
        moved = (end.pose - start.pose)[poses.POSITION]
        self.say(f"moved {np.round(100 * moved, 1).tolist()} cm")
        self._go(start.pose)
        return Move(before, after, start, moved)

    def _target(self, start: ArmState, displacement_m: Vector) -> Vector | None:
        action = np.concatenate([displacement_m, np.zeros(4)])
        filtered = filter_action(
            action, start.pose, self.limits, period_s=self.period_s, joints_rad=start.joints_rad
        )
        left_m = np.linalg.norm(filtered.action[poses.POSITION])
        wanted_m = np.linalg.norm(displacement_m)
        return filtered.target if left_m >= _LEAST_SHARE * wanted_m else None

    def _go(self, target: Vector) -> None:
        """Move and wait for rest, which a slow simulation reaches late."""
        self.arm.move_to(target, self.period_s)
        end = time.monotonic() + _TIMEOUT_S
        time.sleep(self.period_s)
        while time.monotonic() < end:
            left = (self.arm.state().pose - target)[poses.POSITION]
            if not self.arm.is_moving() and np.linalg.norm(left) < 0.5 * self.step_m:
                break
            time.sleep(0.02)
        time.sleep(min(_SETTLE_S, self.period_s))

    def _look(self) -> tuple[CapturedFrame, ArmState]:
        rest = time.monotonic()
        while (captured := self.camera.newest(1.0)).t_capture < rest:
            if time.monotonic() - rest > 2.0:
                raise CameraError("the camera delivers no new frame")
            time.sleep(0.01)
        return captured, self.arm.state()


def infer(
    client: PlannerClient, rest: RestClient, options: SessionOptions, moves: Sequence[Move]
) -> Matrix:
    """Ask the planner how to get from the frame before each move to the frame after it.

    Args:
        client: Not connected; closed at the end.
        rest: The same server over HTTP.
        options: Of the session.
        moves: At most 16, the server's limit on goals.

    Returns:
        Inferred displacements [n, 3] [m].

    Raises:
        RobotClientError: The server cannot be reached, or does not answer.
    """
    goals = [encode_image(move.after.frame, "png").data for move in moves]
    link = ServerLink(client, rest, options, goals)
    try:
        link.open()
        return np.array([_ask(client, index, move) for index, move in enumerate(moves)])
    finally:
        link.close()


def _ask(client: PlannerClient, index: int, move: Move) -> Vector:
    client.send_observation(
        Observe(
            session=client.session,
            seq=index + 1,
            t_capture=move.before.t_capture,
            frame=move.before.frame,
            state=move.start.pose,
            goal_index=index,
        )
    )
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    while (left_s := deadline - time.monotonic()) > 0:
        reply = client.poll_act(left_s)
        if isinstance(reply, Act) and reply.seq == index + 1:
            inferred: Vector = reply.actions[:, poses.POSITION].sum(axis=0)
            return inferred
        if reply is not None and not isinstance(reply, Act):
            raise RecordingError(f"the server refused: {reply.code}: {reply.message}")
    raise RecordingError(f"no plan for move {index} within {_ANSWER_TIMEOUT_S:.0f} s")


def calibrate(moves: Sequence[Move], inferred_m: Matrix, camera: str, *, full: bool) -> Axes:
    """Fit the correction from moves and what the planner made of them."""
    commanded_m = np.array([move.displacement_m for move in moves])
    return fit_axes(commanded_m, inferred_m, camera, full=full)
