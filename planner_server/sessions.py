"""One robot's conversation with the planner: its options, its goals, its state, its counters.

Sessions are touched on the event loop only, so nothing here locks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError
from planner_server.goals import SubGoal
from planner_server.options import PlanOptions
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
        acknowledged: The highest order that the robot has obeyed.
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
        """Return the order that the robot has not obeyed yet."""
        if self.acknowledged >= self.order_number:
            return None
        return _ORDERS[self.state](self.id, self.order_number, self.order_reason)

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


class SessionStore:
    """Bounded set of sessions; the idle ones are forgotten.

    Args:
        max_sessions: Sessions kept at once.
        idle_s: Time without use after which a session is forgotten [s].
        clock: Source of time [s]; a test passes its own.

    Attributes:
        on_forgotten: Told of every session that was idle for too long.
    """

    def __init__(
        self, max_sessions: int, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._clock = clock
        self.on_forgotten: Callable[[Session], object] = lambda _: None
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self, options: PlanOptions, terms: Terms, owner: str = "") -> Session:
        """Begin a session that belongs to the token `owner`.

        Raises:
            PlannerError: `too_many_sessions`.
        """
        self._make_room()
        session = Session(
            secrets.token_hex(8), options, terms, self._clock(), time.time(), owner=owner
        )
        self._sessions[session.id] = session
        return session

    def adopt(self, session: Session, idle_s: float) -> Session:
        """Take up a session that an earlier process, or another replica, began, idle for so long [s] already.

        Raises:
            PlannerError: `too_many_sessions`.
        """
        self._make_room()
        session.last_used_s = self._clock() - max(idle_s, 0.0)
        self._sessions[session.id] = session
        return session

    def get(self, session_id: str) -> Session:
        """Return a session and note that it is in use.

        Raises:
            PlannerError: `unknown_session`.
        """
        session = self.peek(session_id)
        if session is None:
            raise PlannerError(
                "unknown_session",
                f"session {session_id[:64]!r} does not exist: it never did, was ended, or was idle for "
                f"{self._idle_s:g} s. Create one with POST /v1/sessions",
            )
        self.touch(session)
        return session

    def peek(self, session_id: str) -> Session | None:
        """Return a session, if there is one, without using it."""
        self.forget_idle()
        return self._sessions.get(session_id)

    @property
    def room(self) -> int:
        """How many more sessions may be kept."""
        return self._max_sessions - len(self._sessions)

    def drop(self, session: Session) -> None:
        """Forget a session that was ended elsewhere."""
        self._sessions.pop(session.id, None)

    def touch(self, session: Session) -> None:
        """Note that a session is in use."""
        session.last_used_s = self._clock()

    def delete(self, session_id: str) -> Session:
        """End a session.

        Raises:
            PlannerError: `unknown_session`.
        """
        return self._sessions.pop(self.get(session_id).id)

    def all(self) -> list[Session]:
        """Return the open sessions, oldest first."""
        self.forget_idle()
        return list(self._sessions.values())

    def idle_s(self, session: Session) -> float:
        """Return how long a session has not been spoken to [s]."""
        return self._clock() - session.last_used_s

    def forget_idle(self) -> None:
        """Drop every session that has been idle for too long."""
        idle = [s for s in self._sessions.values() if self.idle_s(s) > self._idle_s]
        for session in idle:
            del self._sessions[session.id]
            self.on_forgotten(session)

    def _make_room(self) -> None:
        self.forget_idle()
        if len(self._sessions) >= self._max_sessions:
            raise PlannerError(
                "too_many_sessions",
                f"{len(self._sessions)} sessions are open, at most {self._max_sessions}; "
                "DELETE /v1/sessions/{id} those that are finished, or raise max_sessions",
            )
