"""What the doors hand to the planning worker, and what they get back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_server.goals import SubGoal
from planner_server.options import PlanOptions
from planner_server.planning import Plan, StopReason

Frame = NDArray[np.uint8]

_ASPECT_TOLERANCE = 0.02
# Of its patience; with less than that left, a search is limited by its size in place of the time.
_LEAST_SHARE = 0.1
_MOST_PATIENT = 2.0  # times as patient as another may one be that is planned together with it


@dataclass(frozen=True, eq=False)
class Observation:
    """One look of a robot.

    Attributes:
        seq: The robot's own count.
        read_frame: Returns the frame, uint8 RGB `[H, W, 3]`; called by the worker.
        state: Pose `[7]` at its capture.
        goal_index: Which goal to plan for; None leaves the count to the session.
        committed: Actions `[k, 7]` under way.
        received_s: When it arrived, `time.monotonic()`.
    """

    seq: int
    read_frame: Callable[[], Frame]
    state: NDArray[np.float64]
    goal_index: int | None
    committed: NDArray[np.float64] | None
    received_s: float


@dataclass(frozen=True, eq=False)
class SinglePlan:
    """A plan asked for without a session: how to read the frame, the goal, and the pose `[7]`."""

    read_frame: Callable[[], Frame]
    goal: SubGoal
    state: NDArray[np.float64]
    options: PlanOptions


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """Everything one plan needs, gathered before it waits, so that the worker knows no session.

    Attributes:
        read_frame: Returns the current frame, uint8 RGB `[H, W, 3]`; called by the worker, so that a compressed
            observation that is overtaken is never decoded.
        state: Pose `[7]` at the frame's capture.
        goal: Where to go.
        options: How to plan.
        planner_name: Which planner searches.
        max_step: Box of every action `[7]` [m, rad, closedness].
        horizon: Actions to plan.
        seed: Seed of this search.
        received_s: When the question arrived, `time.monotonic()`.
        patience_ms: Time after `received_s` at which the answer is late [ms].
        is_limited: Whether the search has to end by then with the best so far.
        name: What log lines call it.
        session_id: Whose it is; None for a single plan, of which nothing is remembered.
        epoch: Grows with every hello; what was remembered before it is forgotten.
        committed: Actions `[k, 7]` under way, that the plan begins after.
        is_watched: Whether somebody wants to see it: then the answer carries a `Display`.
    """

    read_frame: Callable[[], Frame]
    state: NDArray[np.float64]
    goal: SubGoal
    options: PlanOptions
    planner_name: str
    max_step: tuple[float, ...]
    horizon: int
    seed: int
    received_s: float
    patience_ms: float
    is_limited: bool
    name: str
    session_id: str | None = None
    epoch: int = 0
    committed: NDArray[np.float64] | None = None
    is_watched: bool = False

    @property
    def due_s(self) -> float:
        """When the answer is due, `time.monotonic()`."""
        return self.received_s + 1e-3 * self.patience_ms

    @property
    def least_ms(self) -> float:
        """The least time that a search which has to end by then is given [ms]."""
        return _LEAST_SHARE * self.patience_ms

    @property
    def is_behind(self) -> bool:
        """Whether the queue has used up the time of a search that has to end by then."""
        return self.is_limited and self.left_ms < self.least_ms

    @property
    def left_ms(self) -> float:
        """Time until the answer is due [ms]; negative where it is late already."""
        return 1e3 * (self.due_s - time.monotonic())

    def goes_with(self, other: PlanRequest) -> bool:
        """Whether one search can serve both at once: same planner, same shape, same budget, about as much time.

        What differs in shape is searched one after another, and all would be answered at the end; and no search is
        longer than the least patient of its requests allows.
        """
        mine, its = self.options, other.options
        return (
            self.planner_name == other.planner_name
            and self._shape == other._shape
            and self.is_limited == other.is_limited
            and self.is_behind == other.is_behind
            and (not self.is_limited or self._is_as_patient_as(other))
            and mine.max_evaluations == its.max_evaluations
            and mine.plateau == its.plateau
        )

    def _is_as_patient_as(self, other: PlanRequest) -> bool:
        less, more = sorted((self.patience_ms, other.patience_ms))
        return more <= _MOST_PATIENT * less

    @property
    def _shape(self) -> tuple[object, ...]:
        """What searches have in common that are made as one, as far as it is known beforehand."""
        options = self.options
        return (
            self.horizon,
            1 if self.committed is not None else options.context,
            options.energy,
            len(self.goal.images),
            tuple(limit > 0 for limit in self.max_step),
            (options.gripper.close_from, options.gripper.open_from),
        )


@dataclass(frozen=True, eq=False)
class Cloud:
    """A sample of one iteration's candidates: the best half of it, and others.

    Attributes:
        actions: First actions `[S, 7]`, best first.
        energies: Their energies `[S]`.
    """

    actions: list[list[float]]
    energies: list[float]


@dataclass(frozen=True, eq=False)
class Display:
    """What a person wants to see of a plan.

    Attributes:
        thumbnail: The observed frame as a small JPEG file.
        heat: Mean absolute difference of observed and goal token, per patch, `[rows, columns]`.
        iterations: What was tried, iteration by iteration; empty where the model was not asked.
    """

    thumbnail: bytes
    heat: list[list[float]]
    iterations: list[Cloud]


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan and what it took [ms]."""

    plan: Plan
    encode_ms: float
    plan_ms: float
    queue_ms: float
    warnings: tuple[str, ...]
    surprise: float | None = None
    frame_sha256: str = ""
    batch_size: int = 1
    display: Display | None = None


def warnings_about(plan: Plan, frame: Frame, request: PlanRequest) -> tuple[str, ...]:
    """What a person beside the robot should know about this plan."""
    warnings = []
    if plan.stop_reason in (StopReason.DEADLINE, StopReason.HELD):
        limit = "deadline" if request.is_limited else "server's max_search_s"
        warnings.append(f"the {limit} ended the search after {plan.evaluations} evaluations")
    if plan.energy >= plan.energy_do_nothing and np.any(plan.actions):
        warnings.append("the model predicts no gain over holding still")
    image = request.goal.images[0]
    aspect, goal_aspect = frame.shape[1] / frame.shape[0], image.width / image.height
    if abs(aspect / goal_aspect - 1) > _ASPECT_TOLERANCE:
        warnings.append(
            f"frame ({frame.shape[1]} x {frame.shape[0]}) and goal ({image.width} x {image.height}) differ in shape; "
            "take the goal with the same camera"
        )
    return tuple(warnings)


def lateness(request: PlanRequest) -> str | None:
    """Return the warning that an answer given now is late, or None."""
    late_ms = 1e3 * (time.monotonic() - request.due_s)
    if late_ms <= 0:
        return None
    return f"late: {late_ms:.0f} ms after the {request.patience_ms:.0f} ms that this plan may take"
