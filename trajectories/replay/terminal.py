"""The result as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from trajectories.replay.baselines import CONSTANT_VELOCITY, ORACLE
from trajectories.replay.comparison import Comparison
from trajectories.replay.report.words import (
    ACTION_SCORE,
    KNOWN,
    POLICY_COLOURS,
    POLICY_NAMES,
    QUANTITIES,
    Quantity,
    count,
)
from trajectories.replay.results import PLAN, ReplayResult, Summary

_COLUMNS = {
    "action_score": "score",
    "end_distance_xyz_m": "end [cm]",
    "direction_cosine": "direction",
    "energy": "energy",
}
_SHORT_NAMES = {CONSTANT_VELOCITY: "constant vel.", ORACLE: "recorded"}


def summary_table(results: Sequence[ReplayResult]) -> Table:
    """Return plans and baselines with their means and intervals."""
    first = results[0]
    episodes, steps = len(first.episodes), len(first.full_steps())
    table = Table(
        title=f"{first.planner.model}: {count(episodes, 'episode')}, {count(steps, 'step')}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for title in _COLUMNS.values():
        table.add_column(title.replace("[", "\\["), justify="right", no_wrap=True)
    for result in results:
        table.add_row(f"plan, {result.planner.label}", *_cells(result.summary[PLAN]), style="bold")
    for policy in POLICY_COLOURS:
        table.add_row(
            _SHORT_NAMES.get(policy, POLICY_NAMES[policy].lower()), *_cells(first.summary[policy])
        )
    return table


def _cells(row: dict[str, Summary]) -> list[str]:
    return [_cell(QUANTITIES[metric], row[metric]) for metric in _COLUMNS]


def _cell(quantity: Quantity, found: Summary) -> str:
    interval = quantity.interval(found).replace(" to ", "..")
    return quantity.show(found.mean) + (f"\n{interval}" if interval else "")


def comparison_table(comparison: Comparison) -> Table:
    """Return the paired differences of two results."""
    first, second = comparison.first.label, comparison.second.label
    table = Table(
        title=f"A: {first}, B: {second}; {count(comparison.episodes, 'episode')}, "
        f"{count(comparison.steps, 'step')}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("metric", "A", "B", "B − A", "95 % interval", "p"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    table.add_row("Action score", *(ACTION_SCORE.show(score) for score in comparison.scores))
    for row in comparison.rows:
        if math.isfinite(row.first):
            quantity = KNOWN[row.metric]
            found = row.paired.difference
            unit = f" \\[{quantity.unit}]" if quantity.unit else ""
            table.add_row(
                quantity.title + unit,
                quantity.show(row.first),
                quantity.show(row.second),
                quantity.show(found.mean),
                quantity.interval(found),
                f"{row.paired.p_value:.3f}",
            )
    return table
