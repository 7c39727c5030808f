"""From requests to plans: read and encode the frames, pose the problems, search them together, judge the answers.

Whatever goes wrong with one request stays with it, unless the device fails. Used by the worker's thread only.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
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
from planner_server.planning import Budget, Context, Plan, PlanningProblem, shift
from planner_server.refusals import not_finite, refusal_of
from planner_server.served_model import ServedModel

logger = logging.getLogger(__name__)

Answer = Planned | PlannerError

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


_Batch = dict[int, _Posed]  # by the requests' places


class BatchPlanner:
    """Plans for several requests at once.

    Args:
        model: Encodes and imagines.
        goals: The goals' tokens.
        memories: What is remembered of sessions.
        max_search_s: Longest search [s].
    """

    def __init__(
        self,
        model: ServedModel,
        goals: GoalTokens,
        memories: Memories,
        max_search_s: float = math.inf,
    ) -> None:
        self._max_search_ms = 1e3 * max_search_s
        self._model = model
        self._goals = goals
        self._memories = memories

    def plan(self, requests: Sequence[PlanRequest]) -> list[Answer]:
        """Return a plan, or the reason why there is none, for every request; they go with one another."""
        answers = dict(self.answers(requests))
        return [answers[index] for index in range(len(requests))]

    def answers(self, requests: Sequence[PlanRequest]) -> Iterator[tuple[int, Answer]]:
        """Do the same, and yield every request's place and its answer as soon as it is there.

        Raises:
            torch.AcceleratorError: The device has failed; there are no more answers.
        """
        posed: dict[int, _Posed] = {}
        for index, request in enumerate(requests):
            found = self._try_to_pose(request)
            if isinstance(found, PlannerError):
                yield index, found
            else:
                posed[index] = found
        yield from self._search(posed)

    # Posing ------------------------------------------------------------------------------------

    def _try_to_pose(self, request: PlanRequest) -> _Posed | PlannerError:
        try:
            return self._pose(request)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # noqa: BLE001 - the other requests of the batch shall not suffer
            return refusal_of(request.name, error)

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

    def _search(self, batch: _Batch) -> Iterator[tuple[int, Answer]]:
        """Search what is behind, shortly, and then the others; where a search fails, halve it until that is alone."""
        if not batch:
            return
        behind = {index: posed for index, posed in batch.items() if posed.request.is_behind}
        chosen = behind or batch
        found = self._try_to_search(list(chosen.values()), is_behind=bool(behind))
        if found is not None:
            yield from zip(chosen, found, strict=True)
        else:
            for half in _halves(chosen):
                yield from self._search(half)
        yield from self._search({index: batch[index] for index in batch if index not in chosen})

    def _try_to_search(self, batch: Sequence[_Posed], *, is_behind: bool) -> list[Answer] | None:
        """Search a batch; None where that fails, and nobody knows for whose sake."""
        try:
            return self._search_at_once(batch, is_behind=is_behind)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it stays with its request
            if len(batch) == 1:
                return [refusal_of(batch[0].request.name, error)]
            kind = type(error).__name__
            logger.warning("a batch of %d failed (%s); its halves are tried", len(batch), kind)
            return None

    def _search_at_once(self, batch: Sequence[_Posed], *, is_behind: bool) -> list[Answer]:
        started_s = time.monotonic()
        requests = [posed.request for posed in batch]
        budget = self._budget(requests, is_behind=is_behind)
        planner = self._model.planners[requests[0].planner_name]
        plans = planner.plan([posed.problem for posed in batch], budget)
        search_ms = 1e3 * (time.monotonic() - started_s)
        return [
            self._answer(posed, plan, search_ms, len(batch))
            for posed, plan in zip(batch, plans, strict=True)
        ]

    def _budget(self, requests: Sequence[PlanRequest], *, is_behind: bool) -> Budget:
        """Return what a search may cost: until the first answer is due, or a little where it is late already."""
        options = requests[0].options
        limits_ms = [self._max_search_ms]
        if not is_behind:
            limits_ms += [max(each.left_ms, each.least_ms) for each in requests if each.is_limited]
        limit_ms = min(limits_ms)
        budget = options.budget(limit_ms if math.isfinite(limit_ms) else None)
        if not is_behind:
            return budget
        # Time would stop it before it began, and an answer that says nothing has cost an encoding all the same.
        most = min(options.max_evaluations or _SHORT_SEARCH, _SHORT_SEARCH)
        return replace(budget, max_evaluations=most)

    # Answering ---------------------------------------------------------------------------------

    def _answer(self, posed: _Posed, plan: Plan, search_ms: float, batch_size: int) -> Answer:
        request = posed.request
        numbers = [plan.energy, plan.energy_now, plan.energy_do_nothing]
        if not (np.isfinite(plan.actions).all() and np.isfinite(numbers).all()):
            return PlannerError("planner_failed", not_finite(f"energy {plan.energy}"))
        remember(posed.memory, posed.seen, request)
        posed.memory.actions = plan.actions
        posed.memory.goal_sha256 = request.goal.sha256
        return Planned(
            plan=plan,
            encode_ms=posed.encode_ms,
            plan_ms=posed.pose_ms + search_ms,
            queue_ms=1e3 * (posed.begun_s - request.received_s),
            warnings=warnings_about(plan, posed.frame, request),
            surprise=posed.surprise,
            frame_sha256=hashlib.sha256(posed.frame.data).hexdigest(),
            batch_size=batch_size,
            display=display_of(
                plan, posed.frame, posed.seen.tokens, posed.problem.goal.tokens[0], self._model.grid
            )
            if request.is_watched
            else None,
        )


def _halves(batch: _Batch) -> list[_Batch]:
    places = list(batch)
    middle = len(places) // 2
    return [{index: batch[index] for index in half} for half in (places[:middle], places[middle:])]


def _warm_start(request: PlanRequest, memory: Memory, like: Tensor) -> Tensor | None:
    """Return what is left of the last plan, where it was for the same goal and has a rest."""
    if request.horizon == 1 or memory.actions is None or len(memory.actions) != request.horizon:
        return None
    if memory.goal_sha256 != request.goal.sha256:
        return None
    return shift(memory.actions).to(like)


def _stacked(actions: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(actions) if actions else like.new_zeros(0, like.shape[-1])
