"""What was found, as tables: for the terminal, for Markdown files, for the page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from simulation.evaluation.conditions import CONDITION_LABELS, CONDITIONS, Condition
from simulation.evaluation.jobs import SHOWN_OBJECTS, Kind
from simulation.evaluation.results import Results
from simulation.evaluation.summary import THRESHOLDS_M, Row
from simulation.tasks import TASK_NAMES

_NONE = "–"
_OVERALL = (Kind("reach", "near"), Kind("reach", "far"), Kind("grasp"), Kind("pick_and_place"))


@dataclass(frozen=True)
class Grid:
    """A table of words.

    Attributes:
        title: What it shows.
        header: Heads of the columns.
        rows: Cells; the first of a row is its name.
        strong: Rows to be stressed, by their number.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()

    def markdown(self) -> str:
        """Return a Markdown table."""
        lines = [_line(self.header), _line(("---",) * len(self.header)).replace(" ", "")]
        for number, row in enumerate(self.rows):
            name = f"**{row[0]}**" if number in self.strong else row[0]
            lines.append(_line((name, *row[1:])))
        return "\n".join(lines)

    def html(self) -> str:
        """Return a table for the page."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        body = ""
        for number, row in enumerate(self.rows):
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            mark = ' class="plan"' if number in self.strong else ""
            body += f"<tr{mark}>{cells}</tr>"
        return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'

    def terminal(self) -> Table:
        """Return a table for the terminal."""
        table = Table(title=self.title)
        for number, cell in enumerate(self.header):
            table.add_column(cell, justify="right" if number else "left", no_wrap=not number)
        for number, row in enumerate(self.rows):
            table.add_row(*row, style="bold" if number in self.strong else None)
        return table


def grids(results: Results) -> list[Grid]:
    """Return the tables that a run has something to say for."""
    made = [
        successes(results),
        reaching(results),
        methods(results),
        by_object(results),
        failures(results),
    ]
    return [grid for grid in made if grid.rows]


def successes(results: Results) -> Grid:
    """Show the success of the main method: tasks and objects down, conditions across."""
    present = [
        condition
        for condition in CONDITIONS
        if any(row.condition == condition and row.method == results.main for row in results.rows)
    ]
    kinds = [Kind("reach", "near"), Kind("reach", "far")]
    for task in TASK_NAMES[1:]:
        kinds += [Kind(task, "near", each) for each in SHOWN_OBJECTS]
        kinds.append(Kind(task))
    rows: list[tuple[str, ...]] = []
    strong: set[int] = set()
    for kind in kinds:
        found = [results.row(results.main, condition, kind) for condition in present]
        if not any(found):
            continue
        if kind.object_kind is None and kind.task != "reach":
            strong.add(len(rows))
        rows.append((str(kind), *(_success(row) for row in found)))
    header = ("task", *(CONDITION_LABELS[condition] for condition in present))
    title = f"{results.labels[results.main]}: success, 95 % Wilson intervals"
    return Grid(title, header, tuple(rows), frozenset(strong))


def reaching(results: Results) -> Grid:
    """Show how near the flange comes to the goal in unseen workcells."""
    header = ["method", "start"]
    header += ["near: median, p90", *(f"< {100 * limit_m:g} cm" for limit_m in THRESHOLDS_M)]
    header += ["far: median, p90", *(f"< {100 * limit_m:g} cm" for limit_m in THRESHOLDS_M)]
    rows: list[tuple[str, ...]] = []
    for name, label in results.labels.items():
        near, far = (results.row(name, "seeds", kind) for kind in _OVERALL[:2])
        if near or far:
            starts = " / ".join(f"{100 * row.start_m:.0f}" for row in (near, far) if row)
            rows.append((label, f"{starts} cm", *_distances(near), *_distances(far)))
    return Grid(
        "reach in unseen workcells: final distance of the flange to the goal",
        tuple(header),
        tuple(rows),
        frozenset({0}) if rows else frozenset(),
    )


def methods(results: Results, condition: Condition = "seeds") -> Grid:
    """Compare the success of all methods in unseen workcells."""
    present, found = _compared(results, condition, _OVERALL)
    rows = [
        (results.labels[name], *shares, _plan_times(results, name))
        for name, shares in found.items()
    ]
    header = ("method", *map(str, present), "plan p50, p90 (slowest task)")
    title = f"success in {CONDITION_LABELS[condition]}"
    return Grid(title, header, tuple(rows), frozenset({0}) if rows else frozenset())


def by_object(results: Results, condition: Condition = "seeds") -> Grid:
    """Compare all methods object by object: what limits one object may not limit another."""
    kinds = [Kind(task, "near", each) for task in TASK_NAMES[1:] for each in SHOWN_OBJECTS]
    present, found = _compared(results, condition, kinds)
    rows = [(results.labels[name], *shares) for name, shares in found.items()]
    title = f"success in {CONDITION_LABELS[condition]}, by object"
    header = ("method", *map(str, present))
    return Grid(title, header, tuple(rows), frozenset({0}) if rows else frozenset())


def _compared(
    results: Results, condition: Condition, kinds: Sequence[Kind]
) -> tuple[list[Kind], dict[str, list[str]]]:
    """Return which kinds of episodes there are, and the success of every method in them."""
    present = [
        kind
        for kind in kinds
        if any((row.condition, row.kind) == (condition, kind) for row in results.rows)
    ]
    found = {
        name: [results.row(name, condition, kind) for kind in present] for name in results.labels
    }
    return present, {name: list(map(_success, rows)) for name, rows in found.items() if any(rows)}


def failures(results: Results) -> Grid:
    """Count what went wrong with the main method, under all conditions."""
    counts: dict[str, Counter[str]] = {}
    for row in results.rows:
        if row.method == results.main and row.kind in _OVERALL:
            for failure, count in row.failures.items():
                counts.setdefault(failure, Counter())[row.condition] += count
    present = [
        condition for condition in CONDITIONS if any(condition in c for c in counts.values())
    ]
    rows = [
        (failure, *(str(count[condition]) for condition in present))
        for failure, count in sorted(counts.items(), key=lambda item: -item[1].total())
    ]
    header = ("failure", *(CONDITION_LABELS[condition] for condition in present))
    return Grid("what went wrong: episodes by kind of failure", header, tuple(rows))


def _success(row: Row | None) -> str:
    return str(row.success) if row else _NONE


def _distances(row: Row | None) -> Sequence[str]:
    if row is None:
        return (_NONE,) * (1 + len(THRESHOLDS_M))
    median, p90 = (100 * value for value in row.final_m)
    return (f"{median:.1f}, {p90:.1f} cm", *(str(share) for share in row.under_m.values()))


def _plan_times(results: Results, method: str) -> str:
    """Return the largest median and 90th percentile of any task."""
    times = [row.plan_ms for row in results.rows if row.method == method and row.plan_ms]
    if not times:
        return _NONE
    return f"{max(p50 for p50, _ in times):.0f}, {max(p90 for _, p90 in times):.0f} ms"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
