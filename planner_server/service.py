"""What both doors, HTTP and ZMQ, can ask for. Lives on the event loop; hands all work to the planning worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from planner_server.adoption import Adoption
from planner_server.errors import PlannerError, SupersededError
from planner_server.goals import SubGoal
from planner_server.landscape import Energies, EnergyQuestion, energies_of
from planner_server.metrics import Metrics
from planner_server.observed_frames import FrameKeeper
from planner_server.options import PlanOptions
from planner_server.order_desk import OrderDesk
from planner_server.plan_records import Outcome, event_of, record_of
from planner_server.plan_request import (
    Frame,
    Observation,
    Planned,
    PlanRequest,
    SinglePlan,
    lateness,
)
from planner_server.security.tokens import Caller, TokenRing
from planner_server.served_model import ServedModel
from planner_server.session import Look, Session
from planner_server.sessions import SessionStore
from planner_server.store.archive import Archive
from planner_server.store.history import History
from planner_server.streams import Streams
from planner_server.terms import Defaults, check_goals, terms_of
from planner_server.worker import PlanningWorker

logger = logging.getLogger(__name__)

_SAVE_TIMEOUT_S = 2.0


@dataclass(frozen=True, eq=False)
class PlannerService:
    """The service behind the doors.

    Attributes:
        model: What is served.
        worker: The thread that plans.
        sessions: The open sessions.
        adoption: Takes up the sessions of others.
        archive: What survives the process.
        history: What it tells of the past.
        frames: Keeps small pictures of what was observed.
        defaults: Of sessions that ask for nothing.
        tokens: Who is let in.
        metrics: What is counted.
        streams: Who watches.
        orders: Where operators give theirs.
        idle_s: Time after which a session is forgotten [s].
    """

    model: ServedModel
    worker: PlanningWorker
    sessions: SessionStore
    adoption: Adoption
    archive: Archive
    history: History
    frames: FrameKeeper
    defaults: Defaults
    tokens: TokenRing
    metrics: Metrics
    streams: Streams
    orders: OrderDesk
    idle_s: float

    # Sessions ----------------------------------------------------------------------------------

    def create_session(
        self, options: PlanOptions, caller: Caller, owner: str | None = None
    ) -> tuple[Session, Future[None]]:
        """Begin a session; the future tells when it is saved.

        Args:
            options: What it asks for.
            caller: Who makes it.
            owner: Name of the token that it shall belong to; None: the caller's.

        Raises:
            PlannerError: `unknown_planner`, `invalid_request`, `forbidden` or `too_many_sessions`.
        """
        if owner is not None:
            self.tokens.check_may_make_for(caller, owner)
        terms = terms_of(options, self.model, self.defaults)
        session = self.sessions.create(options, terms, owner or caller.name)
        saved = self.archive.save_session(session)
        self.archive.note("session_created", session.id, caller.name, options.task)
        return session, saved

    async def find_session(self, session_id: str) -> Session:
        """Return a session of this process, of an earlier one, or of another replica.

        Raises:
            PlannerError: `unknown_session`.
        """
        await self.adoption.look_for(session_id)
        return self.sessions.get(session_id)

    async def set_goals(self, session: Session, goals: Sequence[SubGoal], actor: str) -> bool:
        """Replace a session's goals, whose images have been encoded before; returns whether they are saved.

        Raises:
            PlannerError: `invalid_request`, when the rules do not fit the images; `unknown_session`.
        """
        check_goals(session.options, goals)
        for goal in goals:
            await asyncio.wrap_future(self.worker.check_goal(goal))
        self.sessions.get(session.id)  # somebody may have ended it while its images were encoded
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
            session.check_running()  # an order may have come meanwhile, and nothing shall move then
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
        session.newest = Look(seen.seq, seen.read_frame, seen.state, index, planned.plan.actions)
        planned = self._judge(request, planned)
        if planned.warnings and planned.warnings[-1].startswith("late:"):
            counters.late += 1
        is_goal_done, is_task_done = session.count_plan(
            seen.goal_index, index, goal, planned.plan.energy_now
        )
        outcome = Outcome(planned, index, is_goal_done, is_task_done)
        record = record_of(request, outcome)
        self.archive.save_plan(session, seen.seq, record)
        self.frames.keep(planned, seen.read_frame)
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
        return await energies_of(self.worker, question)

    async def encode_goal(self, image: Frame) -> str:
        """Encode a goal image `[H, W, 3]` and return its digest; the same image is encoded once."""
        return await asyncio.wrap_future(self.worker.encode_goal(image))

    # Keeping house -----------------------------------------------------------------------------

    def sample(self) -> None:
        """Bring the gauges up to date."""
        metrics, writer = self.metrics, self.archive.writer
        metrics.sessions.set(len(self.sessions))
        metrics.waiting.set(self.worker.waiting)
        metrics.streams.set(len(self.streams))
        metrics.unsaved.set(len(writer))
        metrics.lost.set(writer.lost)

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
