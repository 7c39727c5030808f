"""What both doors, HTTP and ZMQ, can ask for. Lives on the event loop; hands all work to the planning worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError, SupersededError
from planner_server.goals import SubGoal
from planner_server.landscape import Energies, EnergyQuestion
from planner_server.metrics import Metrics
from planner_server.options import PlanOptions
from planner_server.plan_records import Outcome, event_of, record_of
from planner_server.plan_request import Frame, Planned, PlanRequest, lateness
from planner_server.security.tokens import TokenRing
from planner_server.served_model import ServedModel
from planner_server.sessions import RUNNING, Session, SessionStore
from planner_server.store.archive import Archive
from planner_server.store.rows import StoredSession
from planner_server.streams import Streams
from planner_server.terms import Defaults, check_goals, terms_of
from planner_server.worker import PlanningWorker

logger = logging.getLogger(__name__)

_SAVE_TIMEOUT_S = 2.0


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
class PlannerService:
    """The service behind the doors.

    Attributes:
        model: What is served.
        worker: The thread that plans.
        sessions: The open sessions.
        archive: What survives the process.
        defaults: Of sessions that ask for nothing.
        tokens: Who is let in.
        metrics: What is counted.
        streams: Who watches.
        idle_s: Time after which a session is forgotten [s].
        on_order: Told of sessions whose robots are to be told something.
    """

    model: ServedModel
    worker: PlanningWorker
    sessions: SessionStore
    archive: Archive
    defaults: Defaults
    tokens: TokenRing
    metrics: Metrics
    streams: Streams
    idle_s: float
    on_order: list[Callable[[Session], None]] = field(default_factory=list)

    # Sessions ----------------------------------------------------------------------------------

    def create_session(self, options: PlanOptions, actor: str) -> tuple[Session, Future[None]]:
        """Begin a session; the future tells when it is saved.

        Raises:
            PlannerError: `unknown_planner`, `invalid_request` or `too_many_sessions`.
        """
        session = self.sessions.create(options, terms_of(options, self.model, self.defaults))
        saved = self.archive.save_session(session)
        self.archive.note("session_created", session.id, actor, options.task)
        return session, saved

    async def find_session(self, session_id: str) -> Session:
        """Return a session of this process, of an earlier one, or of another replica.

        Raises:
            PlannerError: `unknown_session`.
        """
        if self.archive.is_shared and self.sessions.peek(session_id) is None:
            await self._adopt_from_archive(session_id)
        return self.sessions.get(session_id)

    async def set_goals(self, session: Session, goals: Sequence[SubGoal], actor: str) -> bool:
        """Replace a session's goals, whose images have been encoded before; returns whether they are saved.

        Raises:
            PlannerError: `invalid_request`, when the rules do not fit the images.
        """
        check_goals(session.options, goals)
        for goal in goals:
            await asyncio.wrap_future(self.worker.check_goal(goal))
        session.set_goals(tuple(goals))
        saved = self.archive.save_goals(session)
        detail = " ".join(goal.sha256[:12] for goal in goals)
        self.archive.note("goals_set", session.id, actor, detail)
        self.streams.publish(session.id, "goals", {"count": len(goals), "goal_index": 0})
        return await self.until_saved(saved)

    def end_session(self, session_id: str, actor: str) -> Future[None]:
        """End a session.

        Raises:
            PlannerError: `unknown_session`.
        """
        session = self.sessions.delete(session_id)
        return self.forget(session, actor)

    def forget(self, session: Session, actor: str) -> Future[None]:
        """Note that a session, which is gone from the store, is over."""
        self.archive.note("session_ended", session.id, actor)
        self._end_streams(session, actor)
        return self.archive.end_session(session.id)

    def forget_idle(self, session: Session) -> Future[None]:
        """Let go of a session that nobody used here; another replica may have its robot, and then it goes on."""
        if not self.archive.is_shared:
            return self.forget(session, "idle")
        self._end_streams(session, "idle")
        return self.archive.end_session(session.id, unused_s=self.idle_s)

    def _end_streams(self, session: Session, actor: str) -> None:
        self.streams.publish(session.id, "end", {"actor": actor})
        self.streams.end(session.id)

    def give_order(self, session: Session, state: str, reason: str, actor: str) -> Future[None]:
        """Pause, resume or stop the robot of a session; its door tells it."""
        session.give_order(state, reason)
        self.archive.note(f"order_{state}", session.id, actor, reason)
        self.streams.publish(
            session.id, "state", {"state": state, "order": session.order_number, "reason": reason}
        )
        for tell in self.on_order:
            tell(session)
        return self.archive.save_session(session)

    def acknowledge(self, session: Session, order: int) -> None:
        """Note that the robot has obeyed an order."""
        if session.acknowledged < order <= session.order_number:
            session.acknowledged = order
            self.archive.note("order_acknowledged", session.id, "robot", str(order))
            self.streams.publish(session.id, "acknowledged", {"order": order})

    async def until_saved(self, saved: Future[None]) -> bool:
        """Wait a little for something to be on disk; a database that is away delays nobody for long."""
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(saved)), _SAVE_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever the database says
            logger.warning("not saved yet: %s", self.archive.writer.problem or error)
            return False
        return True

    # Planning ----------------------------------------------------------------------------------

    async def observe(self, session: Session, seen: Observation) -> Outcome:
        """Plan for a robot's newest observation and count what happened.

        Raises:
            SupersededError: A newer observation arrived first.
            PlannerError: `paused`, `stopped`, `no_goal`, `invalid_frame`, `planner_failed`, `shutting_down`.
        """
        counters = session.counters
        counters.observations += 1
        try:
            session.check_running()
            index, goal = session.goal(seen.goal_index)
            request = self._request(session, seen, goal)
            planned = await asyncio.wrap_future(self.worker.observe(session.id, request))
        except SupersededError:
            counters.dropped += 1
            self.metrics.count_dropped()
            raise
        except PlannerError as error:
            counters.errors += 1
            self.streams.publish(
                session.id, "error", {"seq": seen.seq, "code": error.code, "message": error.message}
            )
            raise
        counters.plans += 1
        planned = self._judge(request, planned)
        if planned.warnings and planned.warnings[-1].startswith("late:"):
            counters.late += 1
        is_goal_done, is_task_done = session.count_plan(
            seen.goal_index, index, planned.plan.energy_now
        )
        outcome = Outcome(planned, index, is_goal_done, is_task_done)
        record = record_of(request, outcome)
        self.archive.save_plan(session, seen.seq, record)
        if self.streams.is_watched(session.id):
            self.streams.publish(session.id, "plan", event_of(seen.seq, record, planned))
        return outcome

    async def plan_once(self, question: SinglePlan, request_id: str) -> Planned:
        """Plan without a session.

        Raises:
            PlannerError: `unknown_planner`, `invalid_request`, `busy`, `planner_failed`.
        """
        terms = terms_of(question.options, self.model, self.defaults)
        check_goals(question.options, [question.goal])
        request = PlanRequest(
            read_frame=question.read_frame,
            state=question.state,
            goal=question.goal,
            options=question.options,
            seed=question.options.seed,
            received_s=time.monotonic(),
            name=f"request {request_id}",
            **vars(terms),
        )
        planned = self._judge(request, await asyncio.wrap_future(self.worker.plan(request)))
        outcome = Outcome(planned, 0, is_goal_done=False, is_task_done=False)
        self.archive.save_plan(
            None, None, {**record_of(request, outcome), "request_id": request_id}
        )
        return planned

    async def energies(self, question: EnergyQuestion) -> Energies:
        """Return the energies of given actions.

        Raises:
            PlannerError: `invalid_request`, `busy`, `planner_failed`.
        """
        return await asyncio.wrap_future(self.worker.energies(question))

    async def encode_goal(self, image: Frame) -> str:
        """Encode a goal image `[H, W, 3]` and return its digest; the same image is encoded once."""
        return await asyncio.wrap_future(self.worker.encode_goal(image))

    # Keeping house -----------------------------------------------------------------------------

    def restore(self) -> int:
        """Take up the sessions that an earlier process left; called before the doors open. Returns how many."""
        restored = 0
        for stored in self.archive.open_sessions(self.idle_s, self.sessions.room):
            restored += self._take_up(stored)
        return restored

    def sample(self) -> None:
        """Bring the gauges up to date."""
        metrics, writer = self.metrics, self.archive.writer
        metrics.sessions.set(len(self.sessions))
        metrics.waiting.set(self.worker.waiting)
        metrics.streams.set(len(self.streams))
        metrics.unsaved.set(len(writer))
        metrics.lost.set(writer.lost)

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
                if stored is not None:
                    _update(session, stored)

    # -------------------------------------------------------------------------------------------

    async def _adopt_from_archive(self, session_id: str) -> None:
        stored = await asyncio.to_thread(self.archive.find_session, session_id, self.idle_s)
        if stored is not None and self.sessions.peek(session_id) is None:
            self._take_up(stored)

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
        self.sessions.adopt(session)
        return True

    def _request(self, session: Session, seen: Observation, goal: SubGoal) -> PlanRequest:
        return PlanRequest(
            read_frame=seen.read_frame,
            state=seen.state,
            goal=goal,
            options=session.options,
            seed=session.options.seed + seen.seq,
            received_s=seen.received_s,
            name=f"session {session.id} seq {seen.seq}",
            session_id=session.id,
            epoch=session.epoch,
            committed=seen.committed,
            is_watched=self.streams.is_watched(session.id),
            **vars(session.terms),
        )

    def _judge(self, request: PlanRequest, planned: Planned) -> Planned:
        """Add what is to be said about lateness and unsaved records, and count the plan."""
        late, problem = lateness(request), self.archive.writer.problem
        self.metrics.count_plan(request.planner_name, planned, is_late=late is not None)
        added = []
        if problem is not None:
            added.append(f"plans are not being recorded: {problem[:200]}")
        if late is not None:
            added.append(late)
        return replace(planned, warnings=(*planned.warnings, *added)) if added else planned


def _update(session: Session, stored: StoredSession) -> None:
    for name in ("goals", "state", "order_number", "goal_index", "goal_steps", "revision"):
        setattr(session, name, getattr(stored, name))
