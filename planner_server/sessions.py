"""One robot's conversation with the planner: its options, its goals, its counters.

Sessions are touched on the event loop only, so nothing here locks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from planner_server.errors import PlannerError
from planner_server.planning import Planner


class PlanOptions(BaseModel):
    """How to plan: chosen when a session is created, or with a single plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    planner: str | None = Field(
        default=None, description="One of the planners of GET /v1/model; null takes the default."
    )
    search_gripper: bool = Field(
        default=True, description="Whether the gripper may be planned; false keeps it as it is."
    )
    max_step_m: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Largest displacement per axis and action [m]; at most the model's own.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Seed of the search. Observation number seq is planned with seed + seq.",
    )


@dataclass(frozen=True)
class Goal:
    """A goal image, encoded once. `tokens` is `[N, D]`; the sides are those of the image sent [px]."""

    sha256: str
    width: int
    height: int
    tokens: Tensor


@dataclass
class Counters:
    """What happened in a session so far."""

    observations: int = 0
    plans: int = 0
    dropped: int = 0  # observations that a newer one overtook
    errors: int = 0


@dataclass
class Session:
    """Mutable state of one conversation.

    Attributes:
        id: Unguessable name.
        options: What was asked for.
        planner: The planner that serves it.
        planner_name: Its name.
        max_step: The box that every action lies in, `[7]` [m, rad, closedness].
        created_s: When, on the store's clock [s].
        last_used_s: When it was last spoken to [s].
        goals: In the order of the task; the client says which one to plan for.
        counters: What happened so far.
    """

    id: str
    options: PlanOptions
    planner: Planner
    planner_name: str
    max_step: tuple[float, ...]
    created_s: float
    last_used_s: float
    goals: tuple[Goal, ...] = ()
    counters: Counters = field(default_factory=Counters)

    def goal(self, index: int) -> Goal:
        """Return one of the goals.

        Raises:
            PlannerError: `no_goal`.
        """
        if not 0 <= index < len(self.goals):
            has = f"has {len(self.goals)} goal(s)" if self.goals else "has no goal yet"
            raise PlannerError(
                "no_goal",
                f"goal_index is {index} but session {self.id} {has}; "
                f"upload with PUT /v1/sessions/{self.id}/goals",
            )
        return self.goals[index]


class SessionStore:
    """Bounded set of sessions; the idle ones are forgotten.

    Args:
        max_sessions: Sessions kept at once.
        idle_s: Time without use after which a session is forgotten [s].
        clock: Source of time [s]; a test passes its own.
    """

    def __init__(
        self, max_sessions: int, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def create(
        self,
        options: PlanOptions,
        planner: Planner,
        planner_name: str,
        max_step: tuple[float, ...],
    ) -> Session:
        """Begin a session.

        Raises:
            PlannerError: `too_many_sessions`.
        """
        self.forget_idle()
        if len(self._sessions) >= self._max_sessions:
            raise PlannerError(
                "too_many_sessions",
                f"{len(self._sessions)} sessions are open, at most {self._max_sessions}; "
                "DELETE /v1/sessions/{id} those that are finished, or raise max_sessions",
            )
        now_s = self._clock()
        session = Session(
            secrets.token_hex(8), options, planner, planner_name, max_step, now_s, now_s
        )
        self._sessions[session.id] = session
        return session

    def get(self, session_id: str) -> Session:
        """Return a session and note that it is in use.

        Raises:
            PlannerError: `unknown_session`.
        """
        self.forget_idle()
        session = self._sessions.get(session_id)
        if session is None:
            raise PlannerError(
                "unknown_session",
                f"session {session_id[:64]!r} does not exist: it never did, was ended, was idle for "
                f"{self._idle_s:g} s, or the server restarted. Create one with POST /v1/sessions",
            )
        session.last_used_s = self._clock()
        return session

    def delete(self, session_id: str) -> None:
        """End a session.

        Raises:
            PlannerError: `unknown_session`.
        """
        del self._sessions[self.get(session_id).id]

    def all(self) -> list[Session]:
        """Return the open sessions, oldest first."""
        self.forget_idle()
        return list(self._sessions.values())

    def idle_s(self, session: Session) -> float:
        """Return how long a session has not been spoken to [s]."""
        return self._clock() - session.last_used_s

    def forget_idle(self) -> None:
        """Drop every session that has been idle for too long."""
        idle = [s.id for s in self._sessions.values() if self.idle_s(s) > self._idle_s]
        for session_id in idle:
            del self._sessions[session_id]
