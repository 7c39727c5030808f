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


@dataclass(frozen=True, eq=False)
class _Posed:
    """A request whose frame has been read and encoded, and whose problem is posed."""

    request: PlanRequest
    frame: Frame
    seen: Seen
    memory: Memory
    surprise: float | None
    problem: PlanningProblem
    begun_s: float
    encode_ms: float
    pose_ms: float


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
        posed: dict[int, _Posed] = {}
        for index, request in enumerate(requests):
            found = self._try_to_pose(request)
            if isinstance(found, PlannerError):
                answers[index] = found
            else:
                posed[index] = found
        answers.update(zip(posed, self._search(list(posed.values())), strict=True))
        return [answers[index] for index in range(len(requests))]

    # Posing ------------------------------------------------------------------------------------

    def _try_to_pose(self, request: PlanRequest) -> _Posed | PlannerError:
        try:
            return self._pose(request)
        except Exception as error:  # noqa: BLE001 - the other requests of the batch shall not suffer
            return _refusal(request, error)

    def _pose(self, request: PlanRequest) -> _Posed:
        """Read and encode a frame; one by one, so that tokens do not depend on the neighbours' frames."""
        begun_s = time.monotonic()
        frame = request.read_frame()
        check_frame(frame, "frame")
        tokens = self._model.encode(frame[None])[0]
        seen = Seen(tokens, torch.from_numpy(request.state).to(tokens))
        memory = self._memories.recall(request)
        encoded_s = time.monotonic()
        surprise = self._surprise(request, seen, memory)
        asked_s = time.monotonic()
        return _Posed(
            request=request,
            frame=frame,
            seen=seen,
            memory=memory,
            surprise=surprise,
            problem=self._problem(request, seen, memory),
            begun_s=begun_s,
            encode_ms=1e3 * (encoded_s - begun_s),
            pose_ms=1e3 * (time.monotonic() - asked_s),
        )

    @torch.inference_mode()
    def _surprise(self, request: PlanRequest, now: Seen, memory: Memory) -> float | None:
        """How far the observed tokens are from what the model expected of the way the arm has really gone."""
        if not memory.seen:
            return None
        before = memory.seen[-1]
        action = step_between(before.state, now.state, request.max_step)
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

    def _problem(self, request: PlanRequest, seen: Seen, memory: Memory) -> PlanningProblem:
        options = request.options
        chain, actions = context_of(memory.seen, seen, options.context, request.max_step)
        if request.committed is not None:
            # What the arm is doing now is done when the plan begins: plan from where that leads.
            with torch.inference_mode():
                ahead = torch.from_numpy(request.committed).to(seen.tokens)
                chain, actions = [self._imagine(chain, actions, ahead)], []
        return PlanningProblem(
            context_tokens=torch.cat([each.tokens for each in chain]),
            context_states=torch.stack([each.state for each in chain]),
            context_actions=_stacked(actions, chain[0].state),
            goal=self._goals.goal(request.goal),
            bounds=options.bounds(request.max_step),
            horizon=request.horizon,
            energy=options.energy_spec(),
            seed=request.seed,
            warm_start=_warm_start(request, memory, like=seen.tokens),
        )

    # Searching ---------------------------------------------------------------------------------

    def _search(self, batch: list[_Posed]) -> list[Answer]:
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

    def _search_at_once(self, batch: list[_Posed]) -> list[Answer]:
        started_s = time.monotonic()
        planner = self._model.planners[batch[0].request.planner_name]
        budget = _budget([posed.request for posed in batch])
        plans = planner.plan([posed.problem for posed in batch], budget)
        search_ms = 1e3 * (time.monotonic() - started_s)
        return [
            self._answer(posed, plan, search_ms, len(batch))
            for posed, plan in zip(batch, plans, strict=True)
        ]

    # Answering ---------------------------------------------------------------------------------

    def _answer(self, posed: _Posed, plan: Plan, search_ms: float, batch_size: int) -> Answer:
        request = posed.request
        numbers = [plan.energy, plan.energy_now, plan.energy_do_nothing]
        if not (np.isfinite(plan.actions).all() and np.isfinite(numbers).all()):
            return PlannerError("planner_failed", _not_finite(f"energy {plan.energy}"))
        remember(posed.memory, posed.seen, request)
        posed.memory.actions = plan.actions
        posed.memory.goal_sha256 = request.goal.sha256
        return Planned(
            plan=plan,
            encode_ms=posed.encode_ms,
            plan_ms=posed.pose_ms + search_ms,
            queue_ms=1e3 * (posed.begun_s - request.received_s),
            warnings=warnings_about(plan, posed.frame, request.goal),
            surprise=posed.surprise,
            frame_sha256=hashlib.sha256(posed.frame.data).hexdigest(),
            batch_size=batch_size,
            display=display_of(
                plan, posed.frame, posed.seen.tokens, posed.problem.goal.tokens[0], self._model.grid
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


def _warm_start(request: PlanRequest, memory: Memory, like: Tensor) -> Tensor | None:
    """Return what is left of the last plan, where it was for the same goal and has a rest."""
    if request.horizon == 1 or memory.actions is None or len(memory.actions) != request.horizon:
        return None
    if memory.goal_sha256 != request.goal.sha256:
        return None
    return shift(memory.actions).to(like)


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
