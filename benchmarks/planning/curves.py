"""Energy against evaluations: every planner with its options scaled to budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planning.comparison import Array, Contender, answer, bootstrap, relative_gap
from models.world_model import WorldModel
from planner_server.planning import PlanningProblem, RolloutEngine

SCALED: dict[str, Callable[[int], dict[str, Any]]] = {
    "surrogate": lambda n: {
        "design": round(0.45 * n),
        "cloud": round(0.105 * n),
        "basins": round(0.105 * n),
    },
    "icem": lambda n: {"uniform_candidates": n // 2, "cloud_candidates": n // 5},
    "mppi": lambda n: {"first_candidates": n // 4, "candidates": n // 8, "iterations": 6},
    "gradient": lambda n: {"screened": n // 3, "starts": max(1, n // 30), "steps": 20},
    "cem": lambda n: {"candidates": n // 10, "elites": max(2, n // 80), "answer": "best"},
}
"""From evaluations to the options with which a planner needs about as many."""


@dataclass(frozen=True)
class Point:
    """How a planner did with one budget; see `Standing` for the numbers."""

    planner: str
    evaluations: int
    gap: float
    gap_low: float
    gap_high: float
    gap_p90: float
    p50_ms: float


def measure(
    engine: RolloutEngine,
    model: WorldModel,
    problems: Sequence[PlanningProblem],
    budgets: Sequence[int],
    best: Array,
) -> list[Point]:
    """Plan the problems with every planner and budget.

    Args:
        engine: Imagines candidates.
        model: The model in single precision.
        problems: What to plan.
        budgets: Evaluations, about.
        best: Best known energy of every problem.
    """
    answers = [
        answer(engine, model, Contender(name, name, scale(budget)), problems)
        for name, scale in SCALED.items()
        for budget in budgets
    ]
    best = np.minimum(best, np.min([given.energies for given in answers], axis=0))
    points = []
    for given in answers:
        gaps = relative_gap(given.energies, best, given.nothing)
        low, high = bootstrap(gaps, np.median)
        p90, p50_ms = float(np.percentile(gaps, 90)), float(np.median(given.wall_ms))
        gap = float(np.median(gaps))
        points.append(Point(given.name, given.evaluations, gap, low, high, p90, p50_ms))
    return points


def plot(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw the median gap, with its interval, against evaluations as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for name in dict.fromkeys(point.planner for point in points):
        mine = [point for point in points if point.planner == name]
        x = [point.evaluations for point in mine]
        line = axes.plot(x, [100 * point.gap for point in mine], marker="o", label=name)[0]
        low, high = ([100 * getattr(p, end) for p in mine] for end in ("gap_low", "gap_high"))
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("evaluations of the model per plan")
    axes.set_ylabel("energy gap, median [%]")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
