"""The planners on a model that a CPU can serve: real problems, and the published search run beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.console import Console

from benchmarks.planning import cases, curves, speed
from benchmarks.planning.comparison import (
    LONG,
    PUBLISHED,
    Answers,
    Contender,
    Standing,
    answer,
    contenders,
    score,
    standings,
)
from benchmarks.planning.published_search import PublishedSearch
from models.world_model import WorldModel
from planner_server.planning import (
    PlanningProblem,
    RolloutEngine,
    WorldModelDynamics,
    planners,
)
from planner_server.planning.rollouts import measure_batch_size

_console = Console(stderr=True)
_KNEE_SIZES = (8, 16, 24, 32, 40, 48, 56, 64, 96)
_HORIZONS = (1, 2, 3, 6)
_ROBOTS = 16
_FEW_EVALUATIONS = 32


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        problems: Problems per horizon.
        published_iterations: Iterations of the published search that are run the published way, per horizon; where
            there are fewer than 10, the time is scaled.
        published_problems: Problems that it is run on.
        curve_problems: Problems of the curves.
        budgets: Evaluations of the curves.
    """

    problems: dict[int, int]
    published_iterations: dict[int, int]
    published_problems: int
    curve_problems: int
    budgets: tuple[int, ...]


QUICK = Effort({1: 2}, {1: 1}, 1, 2, (48, 96))
DEFAULT = Effort({1: 30, 2: 12}, {1: 10, 2: 2}, 1, 9, (48, 96, 144, 240, 480))
FULL = Effort({1: 30, 2: 30}, {1: 10, 2: 10}, 2, 15, (32, 48, 96, 144, 240, 480, 960))


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
    """All planners at one horizon."""

    horizon: int
    problems: int
    published: PublishedWay
    rows: tuple[Standing, ...]

    def times_faster(self, row: Standing) -> float:
        """Return how many times sooner the row's plan is there than the published way's."""
        return self.published.seconds * 1e3 / row.p50_ms


class ShippedBench:
    """Measures one model.

    Args:
        model: In single precision, on a CPU or CUDA.
        effort: How much.
    """

    def __init__(self, model: WorldModel, effort: Effort) -> None:
        self._model = model
        self._effort = effort
        self._dynamics = WorldModelDynamics(model, "bfloat16")
        self._engine = RolloutEngine(self._dynamics)
        most = max(effort.problems.values())
        begun_s = time.monotonic()
        self._cases = cases.simulated(most)
        _say(f"{most} problems simulated in {time.monotonic() - begun_s:.0f} s")

    def compare(self) -> Iterator[Comparison]:
        """Compare the planners at every horizon."""
        for horizon, count in self._effort.problems.items():
            problems = cases.problems(self._model, self._cases[:count], horizon)
            yield self.compare_on(problems, horizon)

    def compare_on(self, problems: Sequence[PlanningProblem], horizon: int) -> Comparison:
        """Compare the planners on given problems."""
        self._warm_up(problems[0])
        answers = [self._answer(contender, problems) for contender in contenders()]
        long = self._answer(LONG, problems)
        published = next(given for given in answers if given.name == PUBLISHED)
        way = self._time_published(problems, published, horizon)
        rows = standings(answers, long)
        return Comparison(horizon, len(problems), way, tuple(rows))

    def draw_curves(self) -> list[curves.Point]:
        """Return energy against evaluations, at horizon 1."""
        problems = cases.problems(self._model, self._cases[: self._effort.curve_problems], 1)
        long = self._answer(LONG, problems)
        budgets = self._effort.budgets
        _say(f"curves over {len(problems)} problems")
        return curves.measure(self._engine, self._model, problems, budgets, long.energies)

    def over_horizon(self) -> list[speed.Cost]:
        """Time the cache."""
        return speed.over_horizon(self._model, self._dynamics, _HORIZONS, candidates=32)

    def gflop(self) -> dict[int, dict[str, float]]:
        """Return the arithmetic of one candidate [GFLOP] by horizon."""
        config = self._model.config.predictor
        return {horizon: speed.arithmetic(config, horizon) for horizon in _HORIZONS}

    def knee(self) -> dict[int, float]:
        """Return milliseconds per rollout over the size of the batch."""
        context = speed.some_context(self._model, 1)
        seconds = measure_batch_size(self._dynamics, context, _KNEE_SIZES)
        return {size: 1e3 * value for size, value in seconds.items()}

    def together(self) -> speed.Together:
        """Time many robots' problems in one call."""
        repeated = [self._cases[index % len(self._cases)] for index in range(_ROBOTS)]
        problems = cases.problems(self._model, repeated, 1)
        planner = planners.make(planners.default, self._engine)
        return speed.together(planner, problems, _FEW_EVALUATIONS)

    def encode_ms(self) -> float:
        """Return the time that encoding a frame takes, the median [ms]."""
        frame = torch.from_numpy(self._cases[0].frame)[None]
        return speed.milliseconds(lambda: self._model.encode(frame))

    def _answer(self, contender: Contender, problems: Sequence[PlanningProblem]) -> Answers:
        given = answer(self._engine, self._model, contender, problems)
        _say(
            f"horizon {problems[0].horizon}, {given.name}: {given.evaluations} evaluations, "
            f"{np.median(given.wall_ms):.0f} ms, energy {np.median(given.energies):.4f}"
        )
        return given

    def _warm_up(self, problem: PlanningProblem) -> None:
        planners.make(planners.default, self._engine).plan([problem])

    def _time_published(
        self, problems: Sequence[PlanningProblem], ours: Answers, horizon: int
    ) -> PublishedWay:
        iterations = self._effort.published_iterations[horizon]
        search = PublishedSearch(self._model.config.max_step_m, iterations=iterations)
        whole = PublishedSearch(self._model.config.max_step_m).iterations
        seconds, differences = [], []
        chosen = range(0, len(problems), max(1, len(problems) // self._effort.published_problems))
        for index in list(chosen)[: self._effort.published_problems]:
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
            _say(f"horizon {horizon}, the published way: {seconds[-1]:.1f} s")
            if iterations == whole:
                differences.append(abs(score(self._model, problem, actions) - ours.energies[index]))
        difference = max(differences) if differences else None
        return PublishedWay(float(np.median(seconds)), len(seconds), iterations, difference)


def _draw(generator: torch.Generator, candidates: int, axes: int) -> torch.Tensor:
    return torch.randn(candidates, axes, generator=generator)


def _say(text: str) -> None:
    _console.print(text, highlight=False)
