"""The planners on a model that a CPU can serve: real problems, and the published search run beside them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.planning import cases, curves, speed
from benchmarks.planning.comparison import (
    LONG,
    PUBLISHED,
    Answers,
    Array,
    Contender,
    Standing,
    answer,
    contenders,
    score,
    standings,
)
from benchmarks.planning.progress import Sections, say
from benchmarks.planning.published_search import PublishedSearch
from models.world_model import WorldModel
from planner_server.planning import (
    Dynamics,
    PlanningProblem,
    engine_for,
    planners,
)
from planner_server.planning.batch_memory import CPU_BATCH

_KNEE_SIZES = (2, 8, 16, 24, 32, 40, 48, 64, 96)
_HORIZONS = (1, 2, 3, 6)
_ROBOTS = 16
_FEW_EVALUATIONS = 32


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        problems: Problems per horizon.
        candidates: Candidates per iteration of the published search.
        published_iterations: Iterations of it that are run the published way, per horizon; where there are fewer than
            10, the time is scaled.
        published_problems: Problems that it is run on.
        curve_problems: Problems of the curves.
        budgets: Evaluations of the curves.
    """

    problems: dict[int, int]
    candidates: int
    published_iterations: dict[int, int]
    published_problems: int
    curve_problems: int
    budgets: tuple[int, ...]


QUICK = Effort({1: 2, 2: 2}, 40, {1: 10, 2: 2}, 1, 2, (48, 96))
DEFAULT = Effort({1: 30, 2: 30}, 800, {1: 10, 2: 2}, 1, 8, (48, 96, 192, 480))
FULL = Effort({1: 60, 2: 60}, 800, {1: 10, 2: 10}, 3, 15, (32, 48, 96, 144, 240, 480, 960))


@dataclass(frozen=True)
class PublishedWay:
    """What the published search costs when it is executed the published way.

    Attributes:
        seconds: Time of a plan, the median over problems [s].
        problems: Problems it was run on.
        iterations: Iterations run; the time is scaled to 10.
        energy_difference: Largest difference of its plans' energies from those of our `cem` in bfloat16, which stands
            in for it on the other problems; None where it was not run to its end.
    """

    seconds: float
    problems: int
    iterations: int
    energy_difference: float | None


@dataclass(frozen=True)
class Comparison:
    """All planners at one horizon.

    Attributes:
        horizon: Control periods planned.
        problems: Number of problems.
        published: The published way.
        rows: The planners.
        best: Best known energy of every problem.
    """

    horizon: int
    problems: int
    published: PublishedWay
    rows: tuple[Standing, ...]
    best: tuple[float, ...]

    def times_faster(self, row: Standing) -> float:
        """Return how many times sooner the row's plan is there than the published way's."""
        return self.published.seconds * 1e3 / row.p50_ms

    @property
    def fastest(self) -> Standing:
        """The fastest row whose median energy is no higher than that of the published search."""
        return min((row for row in self.rows if row.is_as_good), key=lambda row: row.p50_ms)


class ShippedBench:
    """Measures one model.

    Args:
        model: In single precision, on a CPU or CUDA.
        effort: How much.
        sections: Where the time is noted.
    """

    def __init__(self, model: WorldModel, effort: Effort, sections: Sections) -> None:
        self._model = model
        self._effort = effort
        self._sections = sections
        self._engine = engine_for(model, "bfloat16")
        self._exact = engine_for(model, "float32")
        with sections.section("problems"):
            self._cases = cases.simulated(max(effort.problems.values()))

    def compare(self, horizon: int) -> Comparison:
        """Compare the planners at a horizon."""
        count = self._effort.problems[horizon]
        return self.compare_on(cases.problems(self._model, self._cases[:count], horizon), horizon)

    def compare_on(self, problems: Sequence[PlanningProblem], horizon: int) -> Comparison:
        """Compare the planners on given problems."""
        chosen = contenders(self._effort.candidates)
        answers = [self._answer(who, problems) for who in chosen if horizon in who.horizons]
        best: Array = np.min([given.energies for given in answers], axis=0)
        if horizon in LONG.horizons:
            best = np.minimum(best, self._answer(LONG, problems).energies)
        published = next(given for given in answers if given.name == PUBLISHED)
        way = self._time_published(problems, published, horizon)
        rows = standings(answers, best)
        return Comparison(horizon, len(problems), way, tuple(rows), tuple(best.tolist()))

    def draw_curves(self, best: Sequence[float]) -> list[curves.Point]:
        """Return energy against evaluations at horizon 1, where `best` is known of the problems so far."""
        problems = cases.problems(self._model, self._cases[: self._effort.curve_problems], 1)
        known = np.array(best[: len(problems)])
        with self._sections.section(f"curves over {len(problems)} problems"):
            return curves.measure(self._engine, self._model, problems, self._effort.budgets, known)

    def over_horizon(self) -> list[speed.Cost]:
        """Time the cache."""
        with self._sections.section("cache"):
            context = speed.some_context(self._model, 1)
            predictor = speed.in_bfloat16(self._model.predictor)
            ways: speed.Ways = {
                speed.CACHED: partial(self._dynamics.rollout, context),
                speed.FROM_SCRATCH: partial(speed.from_scratch, predictor, context),
            }
            return speed.over_horizon(ways, _HORIZONS, CPU_BATCH, context.tokens.device)

    def gflop(self) -> dict[int, dict[str, float]]:
        """Return the arithmetic of one candidate [GFLOP] by horizon."""
        config = self._model.config.predictor
        return {horizon: speed.arithmetic(config, horizon) for horizon in _HORIZONS}

    def batches(self, sizes: Sequence[int]) -> list[speed.Cost]:
        """Time batches in every precision."""
        with self._sections.section("precisions"):
            return list(speed.over_batches(self._model, sizes))

    def knee(self) -> dict[int, float]:
        """Return milliseconds per rollout over the size of the batch."""
        context = speed.some_context(self._model, 1)
        with self._sections.section("batch sizes"):
            seconds = speed.over_batch_size(self._dynamics, context, _KNEE_SIZES)
        return {size: 1e3 * value for size, value in seconds.items()}

    def together(self) -> speed.Together:
        """Time many robots' problems in one call."""
        repeated = [self._cases[index % len(self._cases)] for index in range(_ROBOTS)]
        problems = cases.problems(self._model, repeated, 1)
        planner = planners.make(planners.default, self._engine)
        with self._sections.section("many robots"):
            return speed.together(planner, problems, _FEW_EVALUATIONS)

    def encode_ms(self) -> float:
        """Return the time that encoding a frame takes, the median [ms]."""
        frame = torch.from_numpy(self._cases[0].frame)[None]
        return speed.milliseconds(lambda: self._model.encode(frame))

    @property
    def _dynamics(self) -> Dynamics:
        return self._engine.dynamics

    def _answer(self, contender: Contender, problems: Sequence[PlanningProblem]) -> Answers:
        engine = self._exact if contender.precision == "float32" else self._engine
        planners.make(planners.default, engine).plan(problems[:1])  # warms up
        name = f"horizon {problems[0].horizon}, {contender.name}"
        tracked = self._sections.track(problems, name)
        given = answer(engine, self._model, contender, tracked)
        say(
            f"         {given.evaluations} evaluations, {np.median(given.wall_ms):.0f} ms, "
            f"energy {np.median(given.energies):.4f}"
        )
        return given

    def _time_published(
        self, problems: Sequence[PlanningProblem], ours: Answers, horizon: int
    ) -> PublishedWay:
        iterations = self._effort.published_iterations[horizon]
        whole = PublishedSearch.iterations
        search = PublishedSearch(
            self._model.config.max_step_m, self._effort.candidates, iterations=iterations
        )
        step = max(1, len(problems) // self._effort.published_problems)
        chosen = list(range(0, len(problems), step))[: self._effort.published_problems]
        seconds, differences = [], []
        for index in self._sections.track(chosen, f"horizon {horizon}, the published way"):
            problem = problems[index]
            generator = torch.Generator().manual_seed(problem.seed)
            begun_s = time.perf_counter()
            actions = search.plan(
                self._model.predictor,
                (problem.context_tokens, problem.context_states[-1]),
                problem.goal.tokens[0],
                horizon,
                partial(_draw, generator),
            )
            seconds.append((time.perf_counter() - begun_s) * whole / iterations)
            if iterations == whole:
                differences.append(abs(score(self._model, problem, actions) - ours.energies[index]))
        difference = max(differences) if differences else None
        return PublishedWay(float(np.median(seconds)), len(seconds), iterations, difference)


def _draw(generator: torch.Generator, candidates: int, axes: int) -> torch.Tensor:
    return torch.randn(candidates, axes, generator=generator)
