"""One robot's conversation with the planner: its options, its goals, its state, its counters.

Touched on the event loop only, so nothing here locks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from planner_server.goals import SubGoal
from planner_server.options import PlanOptions
from planner_server.orders import FREE, STANDING
from planner_server.security.tokens import Caller, Role
from planner_server.terms import Terms
from robot_client.protocol import Order, Pause, Resume, Stop

RUNNING, PAUSED, STOPPED = "running", "paused", "stopped"
_ORDERS: dict[str, type[Order]] = {PAUSED: Pause, RUNNING: Resume, STOPPED: Stop}


@dataclass
class Counters:
    """What happened in a session so far."""

    observations: int = 0
    plans: int = 0
    dropped: int = 0  # observations that a newer one overtook
    errors: int = 0
    late: int = 0


@dataclass(frozen=True, eq=False)
class Look:
    """The observation that a session was planned for last, for people who ask what else could be done from there.

    Attributes:
        seq: The robot's own count.
        read_frame: Returns the frame, uint8 RGB `[H, W, 3]`.
        state: Pose `[7]` at its capture.
        goal_index: Which goal the plan was for.
        actions: What was planned `[H, 7]`.
    """

    seq: int
    read_frame: Callable[[], NDArray[np.uint8]]
    state: NDArray[np.float64]
    goal_index: int
    actions: NDArray[np.float64]


@dataclass
class Session:
    """Mutable state of one conversation.

    Attributes:
        id: Unguessable name.
        options: What was asked for.
        terms: What they come to with this model.
        last_used_s: When it was last spoken to, on the store's clock [s].
        created_at: When it was made [s since 1970, UTC].
        owner: Name of the token that it belongs to; besides it, only the role operate may change it.
        goals: In the order of the task.
        counters: What happened since this process knows it.
        state: running, paused or stopped.
        order_number: Of the last order to the robot; 0 before the first.
        order_reason: What the operator gave as its reason.
        acknowledged: The highest order that the robot has answered.
        arm: What it said of its arm then, last: standing, stopping, free or unknown; None where this process was
            not told.
        goal_index: Sub-goal under way.
        goal_steps: Plans made for it.
        revision: Grows with every change that other replicas must learn of.
        epoch: Grows with every hello: what the robot did before it says nothing about now.
        newest: What was planned for last; None before the first plan of this process.
        asked_about: What people asked about last, kept so that they can go on asking while the robot moves on.
    """

    id: str
    options: PlanOptions
    terms: Terms
    last_used_s: float
    created_at: float
    owner: str = ""
    goals: tuple[SubGoal, ...] = ()
    counters: Counters = field(default_factory=Counters)
    state: str = RUNNING
    order_number: int = 0
    order_reason: str = ""
    acknowledged: int = 0
    arm: str | None = None
    goal_index: int = 0
    goal_steps: int = 0
    revision: int = 0
    epoch: int = 0
    newest: Look | None = None
    asked_about: Look | None = None

    def goal(self, index: int | None) -> tuple[int, SubGoal]:
        """Return one of the goals with its index; None stands for the one under way.

        Raises:
            PlannerError: `no_goal`.
        """
        index = self.goal_index if index is None else index
        if not 0 <= index < len(self.goals):
            has = f"has {len(self.goals)} goal(s)" if self.goals else "has no goal yet"
            raise PlannerError(
                "no_goal",
                f"goal_index is {index} but session {self.id} {has}; "
                f"upload with PUT /v1/sessions/{self.id}/goals",
            )
        return index, self.goals[index]

    def set_goals(self, goals: tuple[SubGoal, ...]) -> None:
        """Replace the goals and begin with the first."""
        self.goals, self.goal_index, self.goal_steps = goals, 0, 0
        self.revision += 1

    def count_plan(
        self, asked: int | None, index: int, goal: SubGoal, energy_now: float
    ) -> tuple[bool, bool]:
        """Count a plan and go on to the next goal where the server keeps count.

        Args:
            asked: What the client asked for; None leaves the count to the server.
            index: Which goal was planned for.
            goal: The goal itself.
            energy_now: Energy of the observed frame.

        Returns:
            Whether this goal is done, and whether it was the last one.
        """
        if index >= len(self.goals) or self.goals[index] is not goal:  # replaced meanwhile
            return False, False
        if index != self.goal_index:
            self.goal_index, self.goal_steps = index, 0
        self.goal_steps += 1
        is_done = goal.is_done(self.goal_steps, energy_now)
        is_last = index == len(self.goals) - 1
        if asked is None and is_done and not is_last:
            self.goal_index, self.goal_steps = index + 1, 0
        return is_done, is_done and is_last

    def give_order(self, state: str, reason: str) -> None:
        """Note what an operator wants; the robots' door repeats it until the robot has obeyed."""
        self.state, self.order_reason = state, reason
        self.order_number += 1
        self.revision += 1

    def order(self) -> Order | None:
        """Return the order that the robot has not answered yet."""
        if self.acknowledged >= self.order_number:
            return None
        return _ORDERS[self.state](self.id, self.order_number, self.order_reason)

    @property
    def is_order_obeyed(self) -> bool:
        """Whether the arm stands, or is free, as was ordered last: an answer alone is not enough."""
        return self.order() is None and self.arm in (None, STANDING, FREE)

    def acknowledge(self, number: int, arm: str) -> bool:
        """Note what the robot says of its arm, told an order; returns whether that is news.

        An arm that stood stays so: what comes after it was sent before it, or is for the same order once more.
        """
        if not max(self.acknowledged, 1) <= number <= self.order_number:
            return False
        if number == self.acknowledged and self.arm in (arm, STANDING):
            return False
        self.acknowledged, self.arm = number, arm
        return True

    def check_belongs_to(self, caller: Caller) -> None:
        """Refuse a caller whose session this is not.

        Raises:
            PlannerError: `forbidden`.
        """
        if caller.role < Role.OPERATE and caller.name != self.owner:
            raise PlannerError(
                "forbidden",
                f"session {self.id} belongs to the token {self.owner!r}, and this is {caller.name!r}; make a session "
                "of your own, or use a token with the role operate",
            )

    def check_running(self) -> None:
        """Refuse to plan for a robot that shall hold.

        Raises:
            PlannerError: `paused` or `stopped`.
        """
        if self.state == RUNNING:
            return
        why = f" ({self.order_reason})" if self.order_reason else ""
        raise PlannerError(
            self.state,
            f"session {self.id} is {self.state}{why}; hold the arm. "
            f"An operator lets it go on with POST /v1/sessions/{self.id}/resume",
        )
