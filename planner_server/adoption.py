"""Sessions that began elsewhere: in an earlier process of this server, or at another replica. On the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from planner_server.errors import PlannerError
from planner_server.served_model import ServedModel
from planner_server.session import RUNNING, Session
from planner_server.sessions import SessionStore
from planner_server.store.archive import Archive
from planner_server.store.rows import StoredSession
from planner_server.streams import Streams
from planner_server.terms import Defaults, terms_of

logger = logging.getLogger(__name__)

_FLUSH_S = 0.5  # a robot waits 2.5 s for its welcome

# What a session and its row have in common.
_SHARED = (
    "goals",
    "owner",
    "state",
    "order_number",
    "goal_index",
    "goal_steps",
    "revision",
)


@dataclass(frozen=True, eq=False)
class Adoption:
    """Takes sessions up from the archive, and follows what others do to them.

    Attributes:
        sessions: Where they are taken up.
        archive: Where they are found.
        streams: Whoever watches one that ended elsewhere is told.
        model: What is served here; a session that it cannot plan for stays where it is.
        defaults: Of sessions that ask for nothing.
        idle_s: Time after which a session is no longer taken up [s].
    """

    sessions: SessionStore
    archive: Archive
    streams: Streams
    model: ServedModel
    defaults: Defaults
    idle_s: float

    def restore(self) -> int:
        """Take up the sessions that an earlier process left; called before the doors open. Returns how many."""
        restored = 0
        for stored in self.archive.open_sessions(self.idle_s, self.sessions.room):
            restored += self._take_up(stored)
        return restored

    async def look_for(self, session_id: str) -> None:
        """Take up a session that another replica may have begun."""
        if not self.archive.is_shared or self.sessions.peek(session_id) is not None:
            return
        if self.sessions.has_ended(session_id):  # also where the database has not been told yet
            return
        stored = await asyncio.to_thread(self.archive.find_session, session_id, self.idle_s)
        if stored is not None and self.sessions.peek(session_id) is None:
            self._take_up(stored)

    async def has_ended(self, session_id: str) -> bool:
        """Whether a session that is not open was ended, here or elsewhere: one that a crash lost was not."""
        if self.sessions.has_ended(session_id):
            return True
        await asyncio.to_thread(self.archive.writer.flush, _FLUSH_S)  # an idle one has just ended
        revisions = await asyncio.to_thread(self.archive.revisions, [session_id])
        _, has_ended = revisions.get(session_id, (0, False))
        return has_ended

    async def refresh(self) -> None:
        """Learn what other replicas did to the sessions of this one: goals, orders, ends."""
        known = {session.id: session for session in self.sessions.all()}
        if not known or not self.archive.is_shared:
            return
        revisions = await asyncio.to_thread(self.archive.revisions, list(known))
        for session_id, (revision, has_ended) in revisions.items():
            session = known[session_id]
            if has_ended:
                self.sessions.drop(session)
                self.streams.end(session_id)
            elif revision > session.revision:
                stored = await asyncio.to_thread(self.archive.find_session, session_id, self.idle_s)
                # An order given here meanwhile is newer than what was read.
                if stored is not None and stored.revision > session.revision:
                    _update(session, stored)

    def save_use(self, within_s: float) -> None:
        """Save when the sessions used within a time [s] were used last.

        A robot that is paused only pings: its session must be found by the next process, and not be ended by a
        replica that has not heard of it.
        """
        idle = {each.id: self.sessions.idle_s(each) for each in self.sessions.all()}
        now = time.time()
        used_at = {name: now - idle_s for name, idle_s in idle.items() if idle_s <= within_s}
        if used_at:
            self.archive.save_use(used_at)

    def _take_up(self, stored: StoredSession) -> bool:
        """Adopt a stored session; one whose options this model cannot serve stays where it is."""
        try:
            terms = terms_of(stored.options, self.model, self.defaults)
        except PlannerError as error:
            logger.warning("session %s cannot go on: %s", stored.id, error.message)
            return False
        session = Session(stored.id, stored.options, terms, 0.0, stored.created_at)
        _update(session, stored)
        # A robot that obeyed is told once more; one that did not hear of it must be told.
        session.acknowledged = 0 if stored.state != RUNNING else stored.order_number
        self.sessions.adopt(session, time.time() - stored.used_at)
        return True


def _update(session: Session, stored: StoredSession) -> None:
    for name in _SHARED:
        setattr(session, name, getattr(stored, name))
