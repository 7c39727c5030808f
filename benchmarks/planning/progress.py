"""What is being measured, how far it is, and how long every section took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")

_console = Console(stderr=True, highlight=False)


class Sections:
    """The sections of one run.

    Attributes:
        seconds: How long each took, by its name [s].
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun_s = time.monotonic()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Measure how long a section takes, and say so at its end."""
        begun_s = time.monotonic()
        yield
        now_s = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now_s - begun_s
        say(f"[{now_s - self._begun_s:5.0f} s] {name}: {now_s - begun_s:.1f} s")

    def track(self, items: Sequence[Item], name: str) -> Iterable[Item]:
        """Go through the items of a section under a bar."""
        with self.section(name), _bar() as bar:
            yield from bar.track(items, description=name)


def say(text: str) -> None:
    """Write a line beside the results, which go to the standard output."""
    _console.print(text)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_console,
        transient=True,
        disable=not _console.is_terminal,
    )
