"""Let planners answer the same problems, and say how far from the best known answer each stayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.world_model import WorldModel
from planner_server.planning import (
    Plan,
    PlanningProblem,
    Precision,
    RolloutEngine,
    goal_energy,
    planners,
)

Array = NDArray[np.float64]

PUBLISHED = "cem (published)"
EVERYWHERE = (1, 2)
THOROUGH = {
    "design": 64,
    "rounds": 6,
    "cloud": 12,
    "basins": 12,
    "shrink": 0.6,
    "basins_decay": 0.68,
    "fitted_values": 12288,
    "smoothing": 1e-4,
}
"""Options of `surrogate` with almost twice its evaluations, and a fit of all values of the shipped model's tokens: of a
few of them, the lowest point lies a little beside that of all."""
_RESAMPLES = 2000
_CONFIDENCE = (2.5, 97.5)


@dataclass(frozen=True)
class Contender:
    """A planner with options: what one row of the table is about.

    Attributes:
        name: What the row is called.
        planner: Name in the registry.
        options: Options that differ from the defaults.
        precision: What it searches with; its plans are compared in single precision.
        horizons: Where it takes part.
    """

    name: str
    planner: str
    options: dict[str, Any]
    precision: Precision = "bfloat16"
    horizons: tuple[int, ...] = EVERYWHERE


def contenders(candidates: int = 800) -> list[Contender]:
    """Return every planner as it comes, the default one first, the thorough one, and the published search.

    Args:
        candidates: Of the published search, per iteration.
    """
    default = planners.default
    others = [
        Contender(name, name, {}, horizons=EVERYWHERE if name == "icem" else (1,))
        for name in planners
        if name not in (default, "cem")
    ]
    return [
        Contender(f"{default} (default)", default, {}),
        Contender("surrogate, thorough", "surrogate", THOROUGH),
        Contender("surrogate, thorough, float32", "surrogate", THOROUGH, "float32", (1,)),
        Contender("surrogate, one basin", "surrogate", {"basins": 1}, horizons=(1,)),
        *others,
        Contender(PUBLISHED, "cem", {"candidates": candidates}),
    ]


LONG = Contender(
    "long reference run",
    "surrogate",
    {"design": 192, "rounds": 14, "cloud": 32, "basins": 16, "shrink": 0.8, "basins_decay": 0.85},
    horizons=(1,),
)
"""Part of what is best known at horizon 1; not a row."""


@dataclass(frozen=True)
class Answers:
    """What a contender answered to every problem.

    Attributes:
        name: The contender.
        plans: Its plans.
        wall_ms: The time each took [ms].
        energies: Their energies, scored in single precision whatever was searched with.
        nothing: Energies of doing nothing.
    """

    name: str
    plans: tuple[Plan, ...]
    wall_ms: tuple[float, ...]
    energies: Array
    nothing: Array

    @property
    def evaluations(self) -> int:
        """Action sequences imagined per plan, the median."""
        return int(np.median([plan.evaluations for plan in self.plans]))


def answer(
    engine: RolloutEngine,
    model: WorldModel,
    contender: Contender,
    problems: Iterable[PlanningProblem],
) -> Answers:
    """Plan every problem by itself, as a robot would ask, and time it.

    Args:
        engine: Imagines candidates.
        model: The same model in single precision, to score the plans with.
        contender: Who plans.
        problems: What to plan.
    """
    settings = planners.settings(contender.planner, **contender.options)
    planner = planners.make(contender.planner, engine, settings)
    plans, wall_ms, planned = [], [], []
    for problem in problems:
        planned.append(problem)
        begun_s = time.perf_counter()
        plans += planner.plan([problem])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall_ms.append(1e3 * (time.perf_counter() - begun_s))
    chosen = [torch.from_numpy(plan.actions) for plan in plans]
    energies, nothing = (
        np.array([score(model, *pair) for pair in zip(planned, sequences, strict=True)])
        for sequences in (chosen, [torch.zeros_like(actions) for actions in chosen])
    )
    return Answers(contender.name, tuple(plans), tuple(wall_ms), energies, nothing)


@torch.inference_mode()
def score(model: WorldModel, problem: PlanningProblem, actions: Tensor) -> float:
    """Return the L1 energy of actions `[H, 7]` in the model's own precision."""
    tokens = problem.context_tokens
    state, actions = (value.to(tokens) for value in (problem.context_states[-1:], actions[None]))
    predicted, _ = model.rollout(tokens[None], state, actions)
    return float(goal_energy(predicted[0, -1], problem.goal.tokens[0]))


@dataclass(frozen=True)
class Standing:
    """One row: how a contender did on all problems.

    Attributes:
        name: The contender.
        evaluations: Action sequences imagined per plan, the median.
        p50_ms: Median time of a plan [ms].
        p90_ms: 90th percentile of it [ms].
        energy: Median energy.
        gap: Median of (energy - best known) / (energy of doing nothing - best known).
        gap_low: Lower end of the bootstrap 95 % interval of that median.
        gap_high: Upper end of it.
        gap_p90: 90th percentile of the gap.
        distance_m: Median distance of the first translation from that of the published search [m].
        is_as_good: Whether the median energy is no higher than that of the published search.
    """

    name: str
    evaluations: int
    p50_ms: float
    p90_ms: float
    energy: float
    gap: float
    gap_low: float
    gap_high: float
    gap_p90: float
    distance_m: float
    is_as_good: bool


def standings(answers: Sequence[Answers], best: Array) -> list[Standing]:
    """Compare answers to the same problems, one of them `PUBLISHED`, with the best known energies."""
    published = next(given for given in answers if given.name == PUBLISHED)
    return [
        _standing(given, published, relative_gap(given.energies, best, given.nothing))
        for given in answers
    ]


def relative_gap(energies: Array, best: Array, nothing: Array) -> Array:
    """Return (energy - best) / (energy of doing nothing - best) of every problem; 0 where nothing can be gained."""
    room = nothing - best
    return np.divide(energies - best, room, out=np.zeros_like(room), where=room > 0)


def _standing(given: Answers, published: Answers, gaps: Array) -> Standing:
    low, high = bootstrap(gaps, np.median)
    translations = [np.stack([plan.actions[0, :3] for plan in a.plans]) for a in (given, published)]
    return Standing(
        name=given.name,
        evaluations=given.evaluations,
        p50_ms=float(np.median(given.wall_ms)),
        p90_ms=float(np.percentile(given.wall_ms, 90)),
        energy=float(np.median(given.energies)),
        gap=float(np.median(gaps)),
        gap_low=low,
        gap_high=high,
        gap_p90=float(np.percentile(gaps, 90)),
        distance_m=float(np.median(np.linalg.norm(translations[0] - translations[1], axis=1))),
        is_as_good=bool(np.median(given.energies) <= np.median(published.energies)),
    )


def bootstrap(values: Array, statistic: Callable[..., Any]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over resampled problems."""
    rng = np.random.default_rng(0)
    samples = rng.choice(values, size=(_RESAMPLES, len(values)))
    low, high = np.percentile(statistic(samples, axis=1), _CONFIDENCE)
    return float(low), float(high)
