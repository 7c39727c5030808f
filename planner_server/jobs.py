"""What waits in the worker's mailbox, and how it is done: whatever happens, whoever asked is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from planner_server.batch_planner import BatchPlanner
from planner_server.errors import PlannerError
from planner_server.plan_request import Planned, PlanRequest
from planner_server.refusals import refusal_of
from planner_server.served_model import ServedModel

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Job(Generic[Answer]):
    """One thing to do: `question` is a plan request that may share a batch, or work of another kind."""

    question: PlanRequest | Callable[[ServedModel], Answer]
    future: Future[Answer]
    name: str

    def is_plan(self) -> bool:
        """Whether somebody wants a plan."""
        return isinstance(self.question, PlanRequest)

    def goes_with(self, other: Job[Any]) -> bool:
        """Whether both can be done in one call of the planner."""
        mine, its = self.question, other.question
        return (
            isinstance(mine, PlanRequest) and isinstance(its, PlanRequest) and mine.goes_with(its)
        )


def plan_for(jobs: Sequence[Job[Any]], planner: BatchPlanner) -> None:
    """Plan for a batch of jobs; each is told as soon as its answer is there.

    Raises:
        torch.AcceleratorError: The device has failed; everybody is told.
    """
    wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
    requests = [job.question for job in wanted if isinstance(job.question, PlanRequest)]
    try:
        for index, answer in planner.answers(requests):
            _tell(wanted[index], answer)
    except Exception as error:
        for job in wanted:
            if not job.future.done():
                job.future.set_exception(refusal_of(job.name, error))
        if isinstance(error, torch.AcceleratorError):
            raise


def perform(job: Job[Any], model: ServedModel) -> None:
    """Do one job of another kind.

    Raises:
        torch.AcceleratorError: The device has failed; whoever asked is told.
    """
    if not job.future.set_running_or_notify_cancel() or isinstance(job.question, PlanRequest):
        return
    try:
        answer = job.question(model)
    except ValueError as error:  # what planning refuses
        job.future.set_exception(PlannerError("invalid_request", str(error)))
    except Exception as error:
        job.future.set_exception(refusal_of(job.name, error))
        if isinstance(error, torch.AcceleratorError):
            raise
    else:
        job.future.set_result(answer)


def fail(job: Job[Any], error: PlannerError) -> None:
    """Tell whoever asked that it will not be done, unless they have gone."""
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


def _tell(job: Job[Any], answer: Planned | PlannerError) -> None:
    if isinstance(answer, PlannerError):
        job.future.set_exception(answer)
        return
    plan = answer.plan
    logger.info(
        "%s: energy %.4f -> %.4f, %d evaluations (%s), encode %.0f ms, plan %.0f ms, queue %.0f ms, batch of %d",
        job.name,
        plan.energy_now,
        plan.energy,
        plan.evaluations,
        plan.stop_reason.value,
        answer.encode_ms,
        answer.plan_ms,
        answer.queue_ms,
        answer.batch_size,
    )
    job.future.set_result(answer)
