"""What a person sees of a run: a progress bar, tables to plot, and the trackers that were asked for.

`log.csv` and `validation.csv` have one row per logged update; `log.jsonl` has the same rows and
every warning. A value in a row is the mean over the updates since the row before. Rows of updates
that an interrupted run made after its last checkpoint are removed when it continues, because it
makes those updates again.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.model_folder import replace_file
from training.config import TrackerName
from training.trackers import Tracker, open_tracker

TRAINING_TABLE: Final = "log.csv"
VALIDATION_TABLE: Final = "validation.csv"
EVENTS_FILE: Final = "log.jsonl"
_SHOWN = ("loss", "samples_per_s")


class RunLog:
    """Show progress and store rows; used as a context manager by the process that talks.

    Args:
        directory: The run folder.
        title: What the bar says.
        steps: Updates of the whole run.
        done: Updates that were made before.
        trackers: Where rows go as well.
        quiet: Write and show nothing: this process is not the one that talks.
    """

    def __init__(
        self,
        directory: Path,
        title: str,
        steps: int,
        done: int = 0,
        trackers: Iterable[TrackerName] = (),
        *,
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet
        self._means = _Means()
        self._progress = Progress(
            TextColumn(f"[bold]{title}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            disable=quiet,
        )
        self._task = self._progress.add_task(title, total=steps, completed=done, status="")
        self._trackers: list[Tracker] = []
        if not quiet:
            directory.mkdir(parents=True, exist_ok=True)
            self._tables = {
                "training": _Table(directory / TRAINING_TABLE, done),
                "validation": _Table(directory / VALIDATION_TABLE, done),
            }
            self._events = _Events(directory / EVENTS_FILE, done)
            self._trackers = [open_tracker(name, directory, title) for name in trackers]

    def __enter__(self) -> RunLog:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        for tracker in self._trackers:
            tracker.close()

    @property
    def has_rows(self) -> bool:
        """Whether any row of the training was written yet, by this process or the one before."""
        return not self._quiet and bool(self._tables["training"].rows)

    def collect(self, step: int, values: Mapping[str, float]) -> None:
        """Note the values of one update, and move the bar; `step` updates are done."""
        self._means.add(values)
        self._progress.update(self._task, completed=step)

    def take_means(self) -> dict[str, float]:
        """Return the means of what was collected since the last call."""
        return self._means.take()

    def write_row(self, step: int, row: Mapping[str, float]) -> None:
        """Store and show values of the training."""
        status = "  ".join(f"{name} {row[name]:.4g}" for name in _SHOWN if name in row)
        self._progress.update(self._task, status=status)
        self._store("training", step, row)

    def write_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Store what a validation found."""
        self._store("validation", step, values)

    def warn(self, step: int, text: str) -> None:
        """Tell the person something, and keep it."""
        if self._quiet:
            return
        self._progress.console.print(f"[yellow]step {step}: {text}", highlight=False)
        self._events.write({"kind": "warning", "step": step, "text": text})

    def note(self, kind: str, step: int, **content: Any) -> None:
        """Keep an event of another kind without showing it."""
        if not self._quiet:
            self._events.write({"kind": kind, "step": step, **content})

    def _store(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self._quiet:
            return
        self._tables[kind].write({"step": step, **values})
        self._events.write({"kind": kind, "step": step, **values})
        for tracker in self._trackers:
            tracker.write(kind, step, values)


class _Means:
    """Running means of named values."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


class _Table:
    """A CSV file that grows by rows, and by columns when a new quantity turns up."""

    def __init__(self, path: Path, done: int) -> None:
        self._path = path
        self.rows = [row for row in read_table(path) if row["step"] <= done] if done else []
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if self.rows:
            self._rewrite()
        else:
            path.unlink(missing_ok=True)

    def write(self, row: Mapping[str, float]) -> None:
        self.rows.append(dict(row))
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new:
            self._rewrite()
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        replace_file(self._path, self._write_all)

    def _write_all(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read_table(path: Path) -> list[dict[str, float]]:
    """Read `log.csv` or `validation.csv`; no file means no rows.

    Empty cells are left out, and a line that a crash cut off: half a number is another number.
    """
    rows = [
        {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(whole_lines(path))
    ]
    return [row for row in rows if "step" in row]


class _Events:
    """A JSONL file."""

    def __init__(self, path: Path, done: int) -> None:
        self._path = path
        kept = [event for event in read_events(path) if event["step"] <= done] if done else []
        text = "".join(json.dumps(event) + "\n" for event in kept)
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))

    def write(self, event: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read `log.jsonl`; no file means no events. A line that a crash cut off is left out."""
    return [json.loads(line) for line in whole_lines(path)]


def whole_lines(path: Path) -> list[str]:
    """Read the lines of a growing text file that were written to their end; no file means none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
