"""What a person sees of a training run: a progress bar, and a CSV to plot afterwards."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class RunLog:
    """Show progress and write one CSV line every `every` steps to `directory/log.csv`."""

    def __init__(self, directory: Path, title: str, steps: int, every: int = 50) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._every = every
        self._started = time.monotonic()
        self._file = (directory / "log.csv").open("w", newline="")
        self._writer: csv.DictWriter[str] | None = None
        self._progress = Progress(
            TextColumn(f"[bold]{title}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._task = self._progress.add_task(title, total=steps, status="")

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
        self._file.close()

    def update(self, step: int, **values: float) -> None:
        """Advance the bar to `step`; now and then show and store `values`."""
        if step % self._every:
            self._progress.update(self._task, completed=step + 1)
            return
        status = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self._progress.update(self._task, completed=step + 1, status=status)
        row = {"step": step, "elapsed_s": round(time.monotonic() - self._started, 1), **values}
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, fieldnames=list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()
