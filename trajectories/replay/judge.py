"""One answered question turned into a `StepResult`: the plan and the baselines beside the recorded motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trajectories.replay import baselines
from trajectories.replay.metrics import motion_errors, rank_among
from trajectories.replay.questions import Question
from trajectories.replay.results import PLAN, PlannerCard, PolicyStep, StepResult

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the planner said.

    Attributes:
        actions: The plan `[H, 7]` [m, rad, closedness].
        energy_now: Energy of the frame itself towards the goal.
        energy: Energy of the plan, by the planner's own account.
        energy_do_nothing: Energy of staying; None where the planner does not report it.
        evaluations: Action sequences that it imagined.
        encode_ms: Time to encode the frame [ms].
        plan_ms: Time to search [ms].
        queue_ms: Time before that, waiting for other requests [ms].
        round_trip_ms: Time from question to answer [ms].
        goal_ms: As in `StepResult`.
        warnings: What the planner warned of.
    """

    actions: Array
    energy_now: float
    energy: float
    energy_do_nothing: float | None
    evaluations: int
    encode_ms: float
    plan_ms: float
    queue_ms: float
    round_trip_ms: float
    goal_ms: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Energies:
    """What the model thinks of given actions.

    Attributes:
        now: Energy of the frame itself towards the goal.
        of_actions: Predicted goal energies `[S]`.
    """

    now: float
    of_actions: Array


class EnergyModel(Protocol):
    """Tells the goal energy of given actions."""

    def energies(self, frame: Frame, state: Array, goal: Frame, actions: Array) -> Energies | None:
        """Return the energies of `actions` `[S, H, 7]` from `frame` at pose `state` `[7]` to `goal`; None: cannot."""
        ...


def judge(
    question: Question, answer: Answer, card: PlannerCard, model: EnergyModel, candidates: int
) -> StepResult:
    """Compare plan and baselines with the recorded motion, in metres and, where the model can be asked, in energy.

    Args:
        question: What was asked.
        answer: What was answered.
        card: The planner's limits.
        model: Who knows energies.
        candidates: Random action sequences: the random baseline, and those that the recorded one is ranked among.
    """
    tried = _tried(question, answer, np.array(card.max_step), candidates)
    known = model.energies(
        question.frame,
        question.state,
        question.goal,
        np.concatenate([question.recorded[None], *tried.values()]),
    )
    return StepResult(
        episode=question.episode,
        step=question.span.step,
        goal_step=question.span.goal_step,
        time_s=question.time_s,
        is_tail=question.span.is_tail,
        state=_row(question.state),
        recorded=_rows(question.recorded),
        planned=_rows(answer.actions),
        policies=_policies(question, answer, tried, known),
        energy_now=answer.energy_now,
        energy_recorded=None if known is None else float(known.of_actions[0]),
        rank_of_recorded=None
        if known is None
        else rank_among(float(known.of_actions[0]), known.of_actions[-candidates:]),
        encode_ms=answer.encode_ms,
        plan_ms=answer.plan_ms,
        queue_ms=answer.queue_ms,
        round_trip_ms=answer.round_trip_ms,
        goal_ms=answer.goal_ms,
        evaluations=answer.evaluations,
        warnings=answer.warnings,
    )


def _tried(
    question: Question, answer: Answer, max_step: Array, candidates: int
) -> dict[str, Array]:
    """Return the actions `[D, H, 7]` of every policy by name; the random ones come last."""
    horizon = len(question.recorded)
    velocity = baselines.constant_velocity(question.previous, horizon, max_step)
    return {
        PLAN: answer.actions[None],
        baselines.DO_NOTHING: baselines.do_nothing(horizon)[None],
        baselines.CONSTANT_VELOCITY: velocity[None],
        baselines.ORACLE: baselines.oracle(question.recorded, max_step)[None],
        baselines.RANDOM: baselines.random_actions(candidates, horizon, max_step, question.seed),
    }


def _policies(
    question: Question, answer: Answer, tried: Mapping[str, Array], known: Energies | None
) -> dict[str, PolicyStep]:
    """Return errors and energies of every policy by name; `known` begins with the recorded actions."""
    policies, start = {}, 1
    for name, actions in tried.items():
        energies = None if known is None else known.of_actions[start : start + len(actions)]
        policies[name] = _policy(actions, question.recorded, energies)
        start += len(actions)
    reported = {PLAN: answer.energy}  # the planner's own number is the one that it chose by
    if known is None and answer.energy_do_nothing is not None:
        reported[baselines.DO_NOTHING] = answer.energy_do_nothing
    for name, energy in reported.items():
        policies[name] = policies[name].model_copy(update={"energy": energy})
    return policies


def _policy(actions: Array, recorded: Array, energies: Array | None) -> PolicyStep:
    """Average the errors of `[D, H, 7]` actions; directions that do not exist are left out."""
    errors = asdict(motion_errors(actions, np.broadcast_to(recorded, actions.shape)))
    means = {name: _mean(values) for name, values in errors.items()}
    return PolicyStep(**means, energy=None if energies is None else _mean(energies))


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _row(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rows(values: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in values)
