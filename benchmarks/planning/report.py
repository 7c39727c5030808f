"""Tables on the terminal, JSON beside them, and the generated section of the documentation."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.hardware import hardware
from benchmarks.planning import curves, speed
from benchmarks.planning.cases import FIRST_SEED
from benchmarks.planning.published import Published
from benchmarks.planning.published_search import PublishedSearch
from benchmarks.planning.shipped import Comparison
from planner_server.planning.batch_memory import CPU_BATCH

Rows = list[list[str]]

BEGIN = "<!-- begin: written by `make bench-plan` -->"
END = "<!-- end: written by `make bench-plan` -->"
COMPARISON_COLUMNS = [
    "planner", "evaluations", "p50", "p90", "energy", "gap, median [95 %]", "gap, p90", "first action", "faster",
]  # fmt: skip
_PACKAGES = ("torch", "numpy", "scipy", "mujoco")


def environment() -> dict[str, Any]:
    """Return what a measurement depends on besides the code."""
    return {
        "command": " ".join(["python -m planner_server.planning.bench", *sys.argv[1:]]),
        "hardware": hardware(),
        "load_before": os.getloadavg()[0],
        "torch_threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "seed": FIRST_SEED,
    }


def comparison_title(comparison: Comparison) -> str:
    """Return what a comparison is about, with the time that all its speed-ups refer to, and the best of them."""
    published, fastest = comparison.published, comparison.fastest
    scaled = (
        ""
        if published.iterations == PublishedSearch.iterations
        else f", scaled from {published.iterations} of {PublishedSearch.iterations} iterations"
    )
    return (
        f"Horizon {comparison.horizon}, {comparison.problems} problems; the published search, executed the published "
        f"way: {published.seconds:.1f} s{scaled}; at an energy no higher: {fastest.name}, "
        f"{comparison.times_faster(fastest):.0f} times faster"
    )


def comparison_rows(comparison: Comparison) -> Rows:
    """Return one row per planner."""
    return [
        [
            row.name,
            str(row.evaluations),
            _in_ms(row.p50_ms),
            _in_ms(row.p90_ms),
            f"{row.energy:.4f}{'' if row.is_as_good else ' (higher)'}",
            f"{100 * row.gap:.2f} % [{100 * row.gap_low:.2f}, {100 * row.gap_high:.2f}]",
            f"{100 * row.gap_p90:.2f} %",
            f"{100 * row.distance_m:.1f} cm",
            f"{comparison.times_faster(row):.0f} x",
        ]
        for row in comparison.rows
    ]


def horizon_rows(costs: Sequence[speed.Cost], gflop: dict[int, dict[str, float]]) -> Rows:
    """Return one row per way of unrolling: time, and counted arithmetic, each also relative to horizon 1."""
    first = {cost.way: cost for cost in reversed(costs)}
    return [
        [
            cost.way,
            str(cost.horizon),
            _in_ms(cost.milliseconds),
            f"{cost.milliseconds / first[cost.way].milliseconds:.1f} x",
            f"{gflop[cost.horizon][cost.way]:.2f} GFLOP",
            f"{gflop[cost.horizon][cost.way] / gflop[1][cost.way]:.1f} x",
        ]
        for cost in costs
    ]


def section_rows(seconds: dict[str, float]) -> Rows:
    """Return one row per section, and their sum."""
    rows = {**seconds, "all": sum(seconds.values())}
    return [[name, f"{value:.1f} s"] for name, value in rows.items()]


def batch_rows(costs: Sequence[speed.Cost]) -> Rows:
    """Return one row per batch and way."""
    return [
        [str(cost.candidates), cost.way, _in_ms(cost.milliseconds), f"{cost.per_rollout_ms:.2f} ms"]
        for cost in costs
    ]


def print_table(title: str, columns: Sequence[str], rows: Rows) -> None:
    """Print one table."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document whose dataclasses become maps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, default=dataclasses.asdict) + "\n")
    print(f"written: {path}")


def rewrite_section(path: Path, lines: Iterable[str]) -> None:
    """Put lines between the two markers of a page.

    Raises:
        SystemExit: The page has no such markers.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"error: {path} has no section between {BEGIN!r} and {END!r}")
    text = "\n".join(lines)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    print(f"written: {path}")


def markdown(title: str, columns: Sequence[str], rows: Rows) -> list[str]:
    """Return a table for the documentation."""
    head = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return [f"**{title}**", "", *head, *("| " + " | ".join(row) + " |" for row in rows), ""]


def curve_rows(points: Sequence[curves.Point]) -> Rows:
    """Return one row per planner and budget."""
    return [
        [
            p.planner,
            str(p.evaluations),
            f"{100 * p.gap:.2f} %",
            f"{100 * p.gap_p90:.2f} %",
            _in_ms(p.p50_ms),
        ]
        for p in points
    ]


def published_rows(published: Published) -> Rows:
    """Return one row per planner on the published architecture."""
    return [
        [
            plan.name,
            str(plan.evaluations),
            _in_ms(plan.milliseconds),
            "run" if plan.is_measured else "computed",
        ]
        for plan in published.plans
    ]


def knee_rows(knee: dict[int, float]) -> Rows:
    """Return one row per size of the batch."""
    return [
        [f"{size}{' (used)' if size == CPU_BATCH else ''}", f"{value:.2f} ms"]
        for size, value in knee.items()
    ]


def _in_ms(value_ms: float) -> str:
    return f"{value_ms / 1e3:.1f} s" if value_ms >= 10_000 else f"{value_ms:.0f} ms"
