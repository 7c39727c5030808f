"""The one thread that owns the model: it encodes, plans and answers; nothing else in the process computes.

Requests wait in a mailbox. Every session has one place there, and a newer observation takes the place of one that
waits, so a robot is never answered about the past and none can starve another. An error stays with its request.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from planner_server.errors import PlannerError, SupersededError
from planner_server.images import check_frame
from planner_server.mailbox import Mailbox
from planner_server.plan_request import Frame, Planned, PlanRequest, warnings_about
from planner_server.planning import (
    Budget,
    IcemPlanner,
    PlanningProblem,
)
from planner_server.served_model import ServedModel
from planner_server.sessions import Goal

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_JOIN_TIMEOUT_S = 10.0
_WARM_UP_EVALUATIONS = 64


@dataclass(frozen=True)
class WorkerOptions:
    """The settings that concern the worker; their meaning is described in `settings.Settings`."""

    horizon: int = 1
    deadline_ms: float | None = None
    torch_threads: int | None = None
    goal_cache: int = 64
    max_waiting: int = 64


@dataclass(frozen=True)
class _Job(Generic[Answer]):
    work: Callable[[ServedModel], Answer]
    future: Future[Answer]
    name: str


class PlanningWorker:
    """Owns the model and the thread that uses it.

    Args:
        load: Builds the model; called once, in the worker's thread.
        options: How to plan.
    """

    def __init__(self, load: Callable[[], ServedModel], options: WorkerOptions) -> None:
        self._load = load
        self._options = options
        self._mailbox: Mailbox[_Job[Any]] = Mailbox()
        self._goals: OrderedDict[str, Goal] = OrderedDict()  # used by the thread only
        self._loaded: Future[ServedModel] = Future()
        self._warmed_up: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="planning-worker", daemon=True)

    def start(self) -> Future[ServedModel]:
        """Start the thread and return the model to come, or the error that kept it from loading."""
        self._thread.start()
        return self._loaded

    def check_ready(self) -> None:
        """Return once a first plan has been made.

        Raises:
            PlannerError: `not_ready`.
        """
        if not self._warmed_up.done():
            raise PlannerError("not_ready", "the model is warming up; try again in a few seconds")
        error = self._warmed_up.exception()
        if error is not None:
            raise PlannerError(
                "not_ready",
                f"the model cannot plan: {error}. See the server's log, then restart it",
            )

    def encode_goal(self, image: Frame) -> Future[Goal]:
        """Encode a goal image `[H, W, 3]`; the same image is encoded once."""
        return self._submit_one(lambda model: self._encode_goal(model, image), "goal")

    def plan(self, request: PlanRequest) -> Future[Planned]:
        """Plan once; the request waits its turn and is not superseded."""
        return self._submit_one(self._planning(request), request.name)

    def observe(self, session_id: str, request: PlanRequest) -> Future[Planned]:
        """Plan for a session's newest observation; one of it that still waits fails with `SupersededError`."""
        return self._submit(session_id, self._planning(request), request.name)

    def stop(self) -> None:
        """Refuse what waits with `shutting_down`, let the running plan end, stop the thread."""
        for job in self._mailbox.close():
            _fail(job, _shutting_down())
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT_S)

    # Below: called by any thread ------------------------------------------------------------

    def _submit_one(self, work: Callable[[ServedModel], Answer], name: str) -> Future[Answer]:
        if len(self._mailbox) >= self._options.max_waiting:
            raise PlannerError(
                "busy",
                f"{self._options.max_waiting} requests are waiting already; try again in a second, "
                "or plan over ZMQ, where only the newest observation waits",
            )
        return self._submit(object(), work, name)

    def _submit(
        self, key: Hashable, work: Callable[[ServedModel], Answer], name: str
    ) -> Future[Answer]:
        job = _Job(work, Future[Answer](), name)
        try:
            replaced = self._mailbox.put(key, job)
        except RuntimeError as error:
            raise _shutting_down() from error
        if replaced is not None:
            _fail(replaced, SupersededError())
        return job.future

    def _planning(self, request: PlanRequest) -> Callable[[ServedModel], Planned]:
        received_s = time.monotonic()
        return lambda model: self._plan(model, request, received_s)

    # Below: called by the worker's thread only ------------------------------------------------

    def _run(self) -> None:
        if self._options.torch_threads is not None:
            torch.set_num_threads(self._options.torch_threads)
        try:
            model = self._load()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the model
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(model)
        _perform(_Job(self._warm_up, self._warmed_up, "warm-up"), model)
        while (job := self._mailbox.take()) is not None:
            _perform(job, model)

    def _warm_up(self, model: ServedModel) -> None:
        """Plan once on a grey image, so that the first robot does not wait for one-time costs."""
        frame = np.full((*model.frame_size, 3), 128, dtype=np.uint8)
        tokens = model.encode(frame)
        problem = PlanningProblem(
            context=tokens,
            state=torch.zeros(7),
            goal=tokens[0],
            max_step=model.max_step,
            horizon=self._options.horizon,
        )
        budget = Budget(max_evaluations=_WARM_UP_EVALUATIONS)
        IcemPlanner().plan(model.dynamics, problem, budget)

    def _encode_goal(self, model: ServedModel, image: Frame) -> Goal:
        height, width = image.shape[:2]
        digest = hashlib.sha256(f"{height}x{width}:".encode() + image.tobytes()).hexdigest()
        goal = self._goals.pop(digest, None)
        if goal is None:
            goal = Goal(digest, width, height, model.encode(image)[0])
        self._goals[digest] = goal
        if len(self._goals) > self._options.goal_cache:
            self._goals.popitem(last=False)
        return goal

    def _plan(self, model: ServedModel, request: PlanRequest, received_s: float) -> Planned:
        """The way of one observation: frame -> tokens -> search -> actions."""
        begun_s = time.monotonic()
        frame = request.read_frame()
        check_frame(frame, "frame")
        context = model.encode(frame)
        encoded_s = time.monotonic()
        problem = PlanningProblem(
            context=context,
            state=torch.from_numpy(request.state),
            goal=request.goal.tokens,
            max_step=request.max_step,
            horizon=self._options.horizon,
            seed=request.seed,
        )
        budget = Budget(deadline_ms=self._options.deadline_ms)
        plan = request.planner.plan(model.dynamics, problem, budget)
        if not (
            np.isfinite(plan.actions).all() and np.isfinite([plan.energy, plan.energy_now]).all()
        ):
            raise PlannerError(
                "planner_failed",
                f"the model predicted numbers that are not finite (energy {plan.energy}); "
                "check the weights, and try PLANNER_PRECISION=float32",
            )
        planned = Planned(
            plan=plan,
            encode_ms=1e3 * (encoded_s - begun_s),
            plan_ms=1e3 * (time.monotonic() - encoded_s),
            queue_ms=1e3 * (begun_s - received_s),
            warnings=warnings_about(plan, frame, request.goal),
        )
        _log(request.name, planned)
        return planned


def _perform(job: _Job[Any], model: ServedModel) -> None:
    """Do one job; whatever happens, its future is told and the thread goes on."""
    if not job.future.set_running_or_notify_cancel():
        return
    try:
        answer = job.work(model)
    except PlannerError as error:
        job.future.set_exception(error)
    except Exception as error:
        logger.exception("%s failed", job.name)
        text = f"{type(error).__name__}: {error}. The server's log has the details"
        job.future.set_exception(PlannerError("planner_failed", text))
    else:
        job.future.set_result(answer)


def _fail(job: _Job[Any], error: PlannerError) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


def _shutting_down() -> PlannerError:
    return PlannerError("shutting_down", "the server is stopping; connect again when it is back")


def _log(name: str, planned: Planned) -> None:
    plan = planned.plan
    logger.info(
        "%s: energy %.4f -> %.4f, %d evaluations (%s), encode %.0f ms, plan %.0f ms, queue %.0f ms",
        name,
        plan.energy_now,
        plan.energy,
        plan.evaluations,
        plan.stop_reason.value,
        planned.encode_ms,
        planned.plan_ms,
        planned.queue_ms,
    )
