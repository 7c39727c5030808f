"""A served model and one of its planners, asked directly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from planner_server.planning import (
    ActionBounds,
    Budget,
    Goal,
    Plan,
    PlanningProblem,
    RolloutEngine,
    goal_energy,
)
from planner_server.planning.dynamics import Context
from planner_server.planning.errors import PlanningError
from planner_server.served_model import ServedModel
from trajectories.replay.engine import Answers
from trajectories.replay.errors import ReplayError
from trajectories.replay.judge import Answer, Energies
from trajectories.replay.prefetch import Prefetch
from trajectories.replay.questions import Question
from trajectories.replay.results import PlannerCard

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_KEPT_FRAMES = 256
_READY = 4


class LocalPlanner:
    """A `PlannerUnderTest` in this process.

    Args:
        model: The model and its planners.
        planner: Which of them.
        horizon: Actions per plan.
        deadline_ms: Limit of one plan [ms]; None for none.
        batch: Questions planned in one call; more than one gains something on CUDA only.
        label: What reports call it.
    """

    def __init__(
        self,
        model: ServedModel,
        planner: str,
        *,
        horizon: int,
        deadline_ms: float | None,
        batch: int,
        label: str,
    ) -> None:
        self._model = model
        self._planner = model.planners[planner]
        self._budget = Budget(deadline_ms=None if deadline_ms is None else batch * deadline_ms)
        self._batch = batch
        self._tokens: dict[int, tuple[Frame, Tensor]] = {}
        self.card = PlannerCard(
            label=label,
            model=model.name,
            planner=planner,
            via="in process",
            control_period_s=model.control_period_s,
            horizon=horizon,
            max_step=model.max_step,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tokens.clear()

    def plan(self, questions: Iterator[Question]) -> Answers:
        """Answer questions in order, `batch` of them at a time.

        Raises:
            ReplayError: The planner cannot do anything with this episode.
        """
        ahead = Prefetch(questions, depth=max(_READY, 2 * self._batch))
        with closing(iter(ahead)) as ready:
            for first in ready:
                asked = [first, *islice(ready, self._batch - 1)]
                try:
                    answers = self._answers(asked)
                except PlanningError as error:
                    raise ReplayError(f"from step {first.span.step}: {error}") from error
                yield from zip(asked, answers, strict=True)

    def energies(self, frame: Frame, state: Array, goal: Frame, actions: Array) -> Energies:
        """Return the energies of `actions` `[S, H, 7]` with the model that scores plans."""
        context, tokens = self._encode(frame), self._encode(goal)
        return Energies(
            now=float(goal_energy(context, tokens)),
            of_actions=_energies(self._model.engine, context, state, tokens, actions),
        )

    def _answers(self, asked: Sequence[Question]) -> list[Answer]:
        begun_s = time.monotonic()
        problems = [self._problem(question) for question in asked]
        encoded_s = time.monotonic()
        plans = self._planner.plan(problems, self._budget)
        share_ms = 1e3 / len(asked)
        encode_ms = share_ms * (encoded_s - begun_s)
        plan_ms = share_ms * (time.monotonic() - encoded_s)
        if not all(np.isfinite(plan.energy) for plan in plans):
            raise PlanningError("the model predicts no numbers for a step of this batch")
        return [_answer(plan, encode_ms, plan_ms) for plan in plans]

    def _problem(self, question: Question) -> PlanningProblem:
        tokens = self._encode(question.frame)
        return PlanningProblem(
            tokens,
            torch.from_numpy(question.state)[None].to(tokens),
            Goal.of(self._encode(question.goal)),
            ActionBounds.symmetric(self._model.max_step),
            horizon=self.card.horizon,
            seed=question.seed,
        )

    def _encode(self, frame: Frame) -> Tensor:
        """Return the tokens `[N, D]` of a frame, encoded once for all its uses as observation, goal and end."""
        kept = self._tokens.get(id(frame))
        if kept is not None and kept[0] is frame:
            return kept[1]
        tokens = self._model.encode(frame[None])[0]
        if len(self._tokens) >= _KEPT_FRAMES:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[id(frame)] = (frame, tokens)
        return tokens


def _energies(
    engine: RolloutEngine, context: Tensor, state: Array, goal: Tensor, actions: Array
) -> Array:
    """Score `actions` `[S, H, 7]` from tokens `[N, D]` at pose `state` `[7]` towards tokens `[N, D]`."""

    def score(tokens: Tensor, _poses: Tensor, _problems: slice) -> Tensor:
        return goal_energy(tokens[:, :, -1], goal)

    start = Context(
        context[None],
        torch.from_numpy(state)[None, None].to(context),
        context.new_zeros(1, 0, len(state)),
    )
    candidates = torch.from_numpy(np.asarray(actions)).to(context)[None]
    found = engine.evaluate(start, candidates, score, exact=True)
    return np.asarray(found.energies[0].double().cpu().numpy(), dtype=np.float64)


def _answer(plan: Plan, encode_ms: float, plan_ms: float) -> Answer:
    return Answer(
        actions=plan.actions,
        energy_now=plan.energy_now,
        energy=plan.energy,
        energy_do_nothing=plan.energy_do_nothing,
        evaluations=plan.evaluations,
        encode_ms=encode_ms,
        plan_ms=plan_ms,
        queue_ms=0.0,
        round_trip_ms=encode_ms + plan_ms,
        goal_ms=0.0,
        warnings=(),
    )
