"""The one thread that owns the model: it encodes, plans and answers; nothing else in the process computes.

Requests wait in a mailbox. Every session has one place there, and a newer observation takes the place of one that
waits, so a robot is never answered about the past. The most urgent is taken first, with others that can be searched
in the same call, and none can starve another; after anything that is no plan, it is the robots' turn. An error stays
with its request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from planner_server.batch_planner import BatchPlanner
from planner_server.errors import PlannerError, SupersededError
from planner_server.goal_tokens import GoalTokens, digest_of
from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.jobs import Job, fail, perform, plan_for
from planner_server.mailbox import Mailbox
from planner_server.memories import Memories
from planner_server.options import PlanOptions
from planner_server.plan_request import Frame, Planned, PlanRequest
from planner_server.planning import WorldModelDynamics
from planner_server.planning.throughput import Work
from planner_server.refusals import DEVICE_FAILED
from planner_server.served_model import ServedModel

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_JOIN_TIMEOUT_S = 10.0
_WARM_UP_EVALUATIONS = 64
_THREAD_FAILED = "the planning thread has failed; see the server's log, then restart the server"
_PATIENCE_OF_OTHERS_S = 1.0  # goals and landscapes wait no longer than this behind plans


@dataclass(frozen=True)
class WorkerOptions:
    """The settings that concern the worker; their meaning is described in `settings.Settings`."""

    torch_threads: int | None = None
    goal_cache: int = 256
    max_waiting: int = 64
    max_sessions: int = 64
    max_search_s: float = 10.0


class PlanningWorker:
    """Owns the model and the thread that uses it.

    Args:
        load: Builds the model; called once, in the worker's thread.
        options: How to work.
    """

    def __init__(self, load: Callable[[], ServedModel], options: WorkerOptions) -> None:
        self._load = load
        self._options = options
        self._mailbox: Mailbox[Job[Any]] = Mailbox()
        self._goals: GoalTokens | None = None  # used by the thread only
        self._loaded: Future[ServedModel] = Future()
        self._warmed_up: Future[None] = Future()
        self._failure: str | None = None  # what ended the thread before its time
        self._thread = threading.Thread(target=self._run, name="planning-worker", daemon=True)

    def start(self) -> Future[ServedModel]:
        """Start the thread and return the model to come, or the error that kept it from loading."""
        self._thread.start()
        return self._loaded

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._mailbox)

    def check_ready(self) -> None:
        """Return while plans can be made: from the first one on, the warm-up, until the thread ends.

        Raises:
            PlannerError: `not_ready`.
        """
        self.check_alive()
        if not self._warmed_up.done():
            raise PlannerError("not_ready", "the model is warming up; try again in a few seconds")

    def check_alive(self) -> None:
        """Return while the thread lives and its model has not proven unable to plan.

        Raises:
            PlannerError: `not_ready`.
        """
        if self._failure is not None:
            raise self._closed()
        error = self._warmed_up.exception() if self._warmed_up.done() else None
        if error is not None:
            raise PlannerError(
                "not_ready",
                f"the model cannot plan: {error}. See the server's log, then restart it",
            )
        if not self._thread.is_alive():
            raise PlannerError("not_ready", "the planning thread has ended; restart the server")

    def encode_goal(self, image: Frame) -> Future[str]:
        """Encode a goal image `[H, W, 3]`; the same image is encoded once. Returns its digest."""
        return self._submit_one(lambda _: self._encode_goal(image), "goal")

    def check_goal(self, goal: SubGoal) -> Future[None]:
        """Refuse a goal whose rules do not fit its images."""
        return self._submit_one(lambda _: self._check_goal(goal), "goal")

    def ask(self, work: Callable[[ServedModel, GoalTokens], Answer], name: str) -> Future[Answer]:
        """Do something else with the model and the goals' tokens between plans; short, for robots wait behind it."""
        return self._submit_one(lambda model: work(model, self._known_goals()), name)

    def plan(self, request: PlanRequest) -> Future[Planned]:
        """Plan once; the request waits its turn and is not superseded."""
        self._check_room()
        return self._submit(object(), Job(request, Future(), request.name), request.due_s)

    def observe(self, session_id: str, request: PlanRequest) -> Future[Planned]:
        """Plan for a session's newest observation; one of it that still waits fails with `SupersededError`."""
        return self._submit(session_id, Job(request, Future(), request.name), request.due_s)

    def drain(self, timeout_s: float) -> None:
        """Take no further questions, and answer those that wait, for as long as that may take [s]."""
        self._mailbox.close()
        self._thread.join(timeout_s)

    def stop(self) -> None:
        """Refuse what waits with `shutting_down`, let the running plan end, stop the thread."""
        self._mailbox.close()
        for job in self._mailbox.clear():
            fail(job, self._closed())
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT_S)

    # Below: called by any thread ------------------------------------------------------------

    def _check_room(self) -> None:
        if len(self._mailbox) >= self._options.max_waiting:
            raise PlannerError(
                "busy",
                f"{self._options.max_waiting} requests are waiting already; try again in a second, "
                "or plan in a session, where only the newest observation waits",
            )

    def _submit_one(self, work: Callable[[ServedModel], Answer], name: str) -> Future[Answer]:
        self._check_room()
        due_s = time.monotonic() + _PATIENCE_OF_OTHERS_S
        return self._submit(object(), Job(work, Future[Answer](), name), due_s)

    def _submit(self, key: Hashable, job: Job[Answer], due_s: float) -> Future[Answer]:
        try:
            replaced = self._mailbox.put(key, job, due_s)
        except RuntimeError as error:
            raise self._closed() from error
        if replaced is not None:
            fail(replaced, SupersededError())
        return job.future

    def _closed(self) -> PlannerError:
        """Return why nothing is planned any more."""
        if self._failure is not None:
            return PlannerError("not_ready", self._failure)
        return PlannerError(
            "shutting_down", "the server is stopping; connect again when it is back"
        )

    # Below: called by the worker's thread only ------------------------------------------------

    def _run(self) -> None:
        """Serve until the end; however that comes, nobody waits for an answer after it."""
        try:
            self._serve()
        except Exception as error:
            logger.critical("the planning thread ends; restart the server", exc_info=error)
            is_lost = isinstance(error, torch.AcceleratorError)
            self._failure = DEVICE_FAILED if is_lost else _THREAD_FAILED
        finally:
            self._mailbox.close()
            for job in self._mailbox.clear():
                fail(job, self._closed())

    def _serve(self) -> None:
        if self._options.torch_threads is not None:
            torch.set_num_threads(self._options.torch_threads)
        try:
            model = self._load()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the model
            self._loaded.set_exception(error)
            return
        self._goals = GoalTokens(model, self._options.goal_cache)
        self._loaded.set_result(model)
        perform(Job(self._warm_up, self._warmed_up, "warm-up"), model)
        planner = BatchPlanner(
            model,
            self._known_goals(),
            Memories(self._options.max_sessions),
            self._options.max_search_s,
        )
        first: Callable[[Job[Any]], bool] | None = None
        while (jobs := self._mailbox.take(model.most_sessions, Job.goes_with, first)) is not None:
            if jobs[0].is_plan():
                plan_for(jobs, planner)
                first = None
            else:
                perform(jobs[0], model)
                first = Job.is_plan  # so that robots wait for one of the others at most

    def _warm_up(self, model: ServedModel) -> None:
        """Plan once on a grey image, so that the first robot does not wait for one-time costs."""
        frame = np.full((*model.frame_size, 3), 128, dtype=np.uint8)
        digest = self._encode_goal(frame)
        height, width = model.frame_size
        request = PlanRequest(
            read_frame=lambda: frame,
            state=np.array([0.5, 0.0, 0.4, np.pi, 0.0, 0.0, 0.0]),
            goal=SubGoal((GoalImage(digest, width, height, "", b""),), GoalRules()),
            options=PlanOptions(max_evaluations=_WARM_UP_EVALUATIONS),
            planner_name=next(iter(model.planners)),
            max_step=model.max_step,
            horizon=1,
            seed=0,
            received_s=time.monotonic(),
            patience_ms=600_000.0,
            is_limited=False,
            name="warm-up",
        )
        (answer,) = BatchPlanner(model, self._known_goals(), Memories(1)).plan([request])
        if isinstance(answer, PlannerError):
            raise answer
        if isinstance(model.engine.dynamics, WorldModelDynamics):
            most = model.engine.batch_size(Work(horizon=1), model.device)
            model.engine.dynamics.compile_steps(most)

    def _known_goals(self) -> GoalTokens:
        if self._goals is None:
            raise PlannerError(
                "not_ready", "the model is not loaded yet; try again in a few seconds"
            )
        return self._goals

    def _encode_goal(self, image: Frame) -> str:
        digest = digest_of(image)
        self._known_goals().add(image, digest)
        return digest

    def _check_goal(self, goal: SubGoal) -> None:
        self._known_goals().goal(goal)
