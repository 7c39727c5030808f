"""From requests to plans: read and encode the frames, pose the problems, search them together, judge the answers.

Whatever goes wrong with one request stays with it. Used by the worker's thread only.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from planner_server.display import display_of
from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens
from planner_server.images import check_frame
from planner_server.memories import Memories, Memory, Seen, context_of, remember, step_between
from planner_server.plan_request import Frame, Planned, PlanRequest, warnings_about
from planner_server.planning import (
    Budget,
    Context,
    NonFiniteEnergyError,
    Plan,
    PlanningError,
    PlanningProblem,
    shift,
)
from planner_server.served_model import ServedModel

logger = logging.getLogger(__name__)

Answer = Planned | PlannerError

# Of its patience; below that, a search is limited by its size in place of the time.
_LEAST_SHARE = 0.1
# Action sequences: enough for a plan, when the queue has used up the time for a good one.
_SHORT_SEARCH = 16


@dataclass(eq=False)
class _Looked:
    """A request whose frame has been read and encoded."""

    request: PlanRequest
    frame: Frame
    seen: Seen
    memory: Memory
    encode_ms: float
    begun_s: float
    surprise: float | None = None


class BatchPlanner:
    """Plans for several requests at once.

    Args:
        model: Encodes and imagines.
        goals: The goals' tokens.
        memories: What is remembered of sessions.
    """

    def __init__(self, model: ServedModel, goals: GoalTokens, memories: Memories) -> None:
        self._model = model
        self._goals = goals
        self._memories = memories

    def plan(self, requests: Sequence[PlanRequest]) -> list[Answer]:
        """Return a plan, or the reason why there is none, for every request; they go with one another."""
        answers: dict[int, Answer] = {}
        looked: dict[int, _Looked] = {}
        for index, request in enumerate(requests):
            found = self._try_to_look(request)
            if isinstance(found, PlannerError):
                answers[index] = found
            else:
                looked[index] = found
        answers.update(zip(looked, self._search(list(looked.values())), strict=True))
        return [answers[index] for index in range(len(requests))]

    # Looking -----------------------------------------------------------------------------------

    def _try_to_look(self, request: PlanRequest) -> _Looked | PlannerError:
        try:
            return self._look(request)
        except PlannerError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the other requests of the batch shall not suffer
            return _unexpected(request, error)

    def _look(self, request: PlanRequest) -> _Looked:
        """Read and encode a frame; one by one, so that tokens do not depend on the neighbours' frames."""
        begun_s = time.monotonic()
        frame = request.read_frame()
        check_frame(frame, "frame")
        tokens = self._model.encode(frame[None])[0]
        state = torch.from_numpy(request.state).to(tokens)
        memory = self._memories.recall(request)
        looked = _Looked(
            request, frame, Seen(tokens, state), memory, 1e3 * (time.monotonic() - begun_s), begun_s
        )
        looked.surprise = self._surprise(looked)
        return looked

    @torch.inference_mode()
    def _surprise(self, looked: _Looked) -> float | None:
        """How far the observed tokens are from what the model expected of the way the arm has really gone."""
        if not looked.memory.seen:
            return None
        before, now = looked.memory.seen[-1], looked.seen
        action = step_between(before.state, now.state, looked.request.max_step)
        if action is None:
            return None
        expected = self._imagine([before], [], action[None]).tokens
        surprise = float((expected - now.tokens).abs().mean())
        return surprise if np.isfinite(surprise) else None

    def _imagine(self, chain: list[Seen], actions: list[Tensor], ahead: Tensor) -> Seen:
        """Return what the model expects after `ahead` `[H, 7]` from the observations `chain`."""
        context = Context(
            torch.cat([seen.tokens for seen in chain])[None],
            torch.stack([seen.state for seen in chain])[None],
            _stacked(actions, chain[0].state)[None],
        )
        tokens, poses = self._model.engine.dynamics.rollout(context, ahead[None, None])
        return Seen(tokens[0, 0, -1], poses[0, 0, -1])

    # Searching ---------------------------------------------------------------------------------

    def _search(self, batch: list[_Looked]) -> list[Answer]:
        """Search a batch; where that fails, halve it, until the failure is alone."""
        if not batch:
            return []
        try:
            return self._search_at_once(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stays with its request
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            if len(batch) == 1:
                return [_refusal(batch[0].request, error)]
            logger.warning(
                "a batch of %d failed (%s); its halves are tried", len(batch), type(error).__name__
            )
        middle = len(batch) // 2
        return self._search(batch[:middle]) + self._search(batch[middle:])

    def _search_at_once(self, batch: list[_Looked]) -> list[Answer]:
        started_s = time.monotonic()
        first = batch[0].request
        problems = [self._problem(looked) for looked in batch]
        budget = _budget([looked.request for looked in batch])
        plans = self._model.planners[first.planner_name].plan(problems, budget)
        plan_ms = 1e3 * (time.monotonic() - started_s)
        return [
            self._answer(looked, problem, plan, plan_ms, len(batch))
            for looked, problem, plan in zip(batch, problems, plans, strict=True)
        ]

    def _problem(self, looked: _Looked) -> PlanningProblem:
        request, options = looked.request, looked.request.options
        chain, actions = context_of(
            looked.memory.seen, looked.seen, options.context, request.max_step
        )
        if request.committed is not None:
            # What the arm is doing now is done when the plan begins: plan from where that leads.
            with torch.inference_mode():
                ahead = torch.from_numpy(request.committed).to(looked.seen.tokens)
                chain, actions = [self._imagine(chain, actions, ahead)], []
        return PlanningProblem(
            context_tokens=torch.cat([seen.tokens for seen in chain]),
            context_states=torch.stack([seen.state for seen in chain]),
            context_actions=_stacked(actions, chain[0].state),
            goal=self._goals.goal(request.goal),
            bounds=options.bounds(request.max_step),
            horizon=request.horizon,
            energy=options.energy_spec(),
            seed=request.seed,
            warm_start=_warm_start(looked),
        )

    # Answering ---------------------------------------------------------------------------------

    def _answer(
        self, looked: _Looked, problem: PlanningProblem, plan: Plan, plan_ms: float, batch_size: int
    ) -> Answer:
        request = looked.request
        numbers = [plan.energy, plan.energy_now, plan.energy_do_nothing]
        if not (np.isfinite(plan.actions).all() and np.isfinite(numbers).all()):
            return PlannerError("planner_failed", _not_finite(f"energy {plan.energy}"))
        remember(looked.memory, looked.seen, request)
        looked.memory.actions = plan.actions
        looked.memory.goal_sha256 = request.goal.sha256
        return Planned(
            plan=plan,
            encode_ms=looked.encode_ms,
            plan_ms=plan_ms,
            queue_ms=1e3 * (looked.begun_s - request.received_s),
            warnings=warnings_about(plan, looked.frame, request.goal),
            surprise=looked.surprise,
            frame_sha256=hashlib.sha256(looked.frame.data).hexdigest(),
            batch_size=batch_size,
            display=display_of(
                plan, looked.frame, looked.seen.tokens, problem.goal.tokens[0], self._model.grid
            )
            if request.is_watched
            else None,
        )


def _budget(requests: Sequence[PlanRequest]) -> Budget:
    """Return what the search may cost: until the first answer is due, or a little where it is late already."""
    first = requests[0]
    if not first.is_limited:
        return first.options.budget(None)
    now_s = time.monotonic()
    left_ms = min(1e3 * (request.due_s - now_s) for request in requests)
    if left_ms >= _LEAST_SHARE * min(request.patience_ms for request in requests):
        return first.options.budget(left_ms)
    # Time would stop it before it began, and an answer that says nothing has cost an encoding all the same.
    most = first.options.max_evaluations or _SHORT_SEARCH
    return replace(first.options.budget(None), max_evaluations=min(most, _SHORT_SEARCH))


def _warm_start(looked: _Looked) -> Tensor | None:
    """Return what is left of the last plan, where it was for the same goal and has a rest."""
    actions, request = looked.memory.actions, looked.request
    if request.horizon == 1 or actions is None or len(actions) != request.horizon:
        return None
    if looked.memory.goal_sha256 != request.goal.sha256:
        return None
    return shift(actions).to(looked.seen.tokens)


def _stacked(actions: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(actions) if actions else like.new_zeros(0, like.shape[-1])


def _refusal(request: PlanRequest, error: Exception) -> PlannerError:
    if isinstance(error, PlannerError):
        return error
    if isinstance(error, NonFiniteEnergyError):
        return PlannerError("planner_failed", _not_finite(str(error)))
    if isinstance(error, PlanningError):
        return PlannerError("invalid_request", str(error))
    if isinstance(error, torch.OutOfMemoryError):
        return PlannerError(
            "planner_failed",
            "the device has not enough memory for a single plan; lower chunk_size or context, or free the device",
        )
    return _unexpected(request, error)


def _unexpected(request: PlanRequest, error: Exception) -> PlannerError:
    logger.error("%s failed", request.name, exc_info=error)
    return PlannerError(
        "planner_failed", "planning failed unexpectedly; the server's log has the details"
    )


def _not_finite(what: str) -> str:
    return (
        f"the model predicted numbers that are not finite ({what}); "
        "check the weights, and try PLANNER_PRECISION=float32"
    )
