"""The measured part of a README or model card, written from the results file between two marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulation.errors import ResultsError
from simulation.evaluation.conditions import CONDITION_LABELS, CONDITION_MEANINGS
from simulation.evaluation.failures import FAILURE_MEANINGS
from simulation.evaluation.jobs import Job, Record
from simulation.evaluation.methods import METHODS, Method
from simulation.evaluation.replays import replay, stack, strip
from simulation.evaluation.results import Results
from simulation.evaluation.tables import Grid, by_object, failures, methods, reaching, successes
from simulation.supervisor import encode_png

Frame = NDArray[np.uint8]

PICTURE = "failures.png"

_MOMENTS = 6
_MOST_ROWS = 6


def fill(path: Path, results: Results) -> bool:
    """Write what belongs between the marks of a Markdown file.

    Returns:
        Whether the file has marks for failures, and so wants their picture.

    Raises:
        ResultsError: The file cannot be read or has no marks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    marked = [section for section in SECTIONS if all(each in text for each in marks(section))]
    if not marked:
        known = " or ".join(" and ".join(marks(section)) for section in SECTIONS)
        raise ResultsError(f"{path} has no lines {known}; put them where the tables are to stand")
    for section in marked:
        begin, end = marks(section)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{SECTIONS[section](results)}\n{end}{after}"
    path.write_text(text, encoding="utf-8")
    return "failures" in marked


def marks(section: str) -> tuple[str, str]:
    """Return the lines between which a section stands."""
    return f"<!-- {section}: begin -->", f"<!-- {section}: end -->"


def in_short(results: Results) -> str:
    """Return the two tables that say most, as Markdown."""
    return _described(results, (successes(results), methods(results)))


def tables(results: Results) -> str:
    """Return the tables and what they rest on, as Markdown."""
    shown = (successes(results), methods(results), by_object(results), reaching(results))
    return _described(results, shown)


def failure_modes(results: Results) -> str:
    """Return what went wrong, how often and what it looks like, as Markdown."""
    grid = failures(results)
    if not grid.rows:
        return "No episode of the benchmark failed."
    meanings = "\n".join(f"- **{row[0]}**: {FAILURE_MEANINGS[row[0]]}." for row in grid.rows)
    return (
        f"{_sentence(grid.title)}\n\n{grid.markdown()}\n\n{meanings}\n\n"
        f"![one failed episode per row: six moments, and the last goal image]({PICTURE})\n\n"
        f"One episode per row, from left to right, and its last goal image: {_rows(results)}."
    )


def examples(results: Results) -> list[Job]:
    """Return one failed episode of the main method per kind of failure, the most frequent first."""
    order = [row[0] for row in failures(results).rows]
    first: dict[str, Job] = {}
    for job, failure in results.failed:
        if job.method == results.main:
            first.setdefault(failure, job)
    return [first[failure] for failure in order if failure in first][:_MOST_ROWS]


def draw(records: Sequence[Record], main: Method, path: Path) -> None:
    """Draw episodes one below the other into a PNG file."""
    rows: list[Frame] = [strip(replay(record, main), _MOMENTS) for record in records]
    path.write_bytes(encode_png(stack(rows)))


def main_method(results: Results) -> Method:
    """Return the method that results are about, as far as a replay needs it."""
    origin = results.origins[results.main]
    known = METHODS.get(results.main)
    schedule = origin["schedule"]
    if known is not None and known.schedule == schedule:
        return known
    return Method(results.main, origin["label"], origin["policy"], schedule)


def _rows(results: Results) -> str:
    kinds = dict(results.failed)
    return "; ".join(
        f"{kinds[job]} ({job.kind}, {CONDITION_LABELS[job.condition]}, seed {job.seed})"
        for job in examples(results)
    )


def _sentence(title: str) -> str:
    return f"{title[:1].upper()}{title[1:]}."


def _described(results: Results, grids: Sequence[Grid]) -> str:
    """Return tables with what the conditions are and what printed them."""
    parts = [f"{_sentence(grid.title)}\n\n{grid.markdown()}" for grid in grids if grid.rows]
    conditions = {row.condition for row in results.rows}
    meanings = [
        f"{CONDITION_LABELS[name]}: {CONDITION_MEANINGS[name]}"
        for name in CONDITION_LABELS
        if name in conditions and name != "seeds"
    ]
    if meanings:
        parts.append(f"Outside of the ranges of training: {'; '.join(meanings)}.")
    parts.append(f"`{results.about['command']}` on {results.about['hardware']} printed this.")
    return "\n\n".join(parts)


SECTIONS: dict[str, Callable[[Results], str]] = {
    "closed loop": tables,
    "closed loop in short": in_short,
    "failures": failure_modes,
}
