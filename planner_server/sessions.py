"""The open sessions: as many as there is room for, and none that nobody uses.

Touched on the event loop only, so nothing here locks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from planner_server.errors import PlannerError
from planner_server.options import PlanOptions
from planner_server.session import Session
from planner_server.terms import Terms

_MOST_ENDED = 4096  # sessions that are over and remembered


class SessionStore:
    """Bounded set of sessions; the idle ones are forgotten.

    Args:
        max_sessions: Sessions kept at once.
        idle_s: Time without use after which a session is forgotten [s].
        clock: Source of time [s]; a test passes its own.

    Attributes:
        on_forgotten: Told of every session that was idle for too long.
        on_ended: Told of every session that is over here, whoever ended it.
    """

    def __init__(
        self, max_sessions: int, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._clock = clock
        self.on_forgotten: Callable[[Session], object] = lambda _: None
        self.on_ended: list[Callable[[Session], object]] = []
        self._sessions: dict[str, Session] = {}
        self._ended: dict[str, None] = {}  # the oldest first

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
        self._end(session)

    def touch(self, session: Session) -> None:
        """Note that a session is in use."""
        session.last_used_s = self._clock()

    def delete(self, session_id: str) -> Session:
        """End a session.

        Raises:
            PlannerError: `unknown_session`.
        """
        session = self.get(session_id)
        self._end(session)
        return session

    def has_ended(self, session_id: str) -> bool:
        """Whether a session was open here and somebody ended it; an idle one may go on elsewhere."""
        return session_id in self._ended

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
            self._let_go(session)
            self.on_forgotten(session)

    def _end(self, session: Session) -> None:
        self._ended[session.id] = None
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._let_go(session)

    def _let_go(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            for tell in self.on_ended:
                tell(session)

    def _make_room(self) -> None:
        self.forget_idle()
        if len(self._sessions) >= self._max_sessions:
            raise PlannerError(
                "too_many_sessions",
                f"{len(self._sessions)} sessions are open, at most {self._max_sessions}; "
                "DELETE /v1/sessions/{id} those that are finished, or raise max_sessions",
            )
