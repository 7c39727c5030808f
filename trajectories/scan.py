"""Inspect many episodes in several processes.

A file that brings its reader down, or holds it up for too long, costs that one episode: the process
is replaced, the episode gets a defect, nothing is tried twice.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from trajectories.dataset import Dataset
from trajectories.errors import Defect
from trajectories.inspection import Finding

Inspector = Callable[[Dataset, int], Finding]

TIMEOUT_S = 300.0
_PATIENCE_S = 5.0


def scan(
    dataset: Dataset,
    inspector: Inspector,
    indices: Iterable[int],
    workers: int,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Finding]:
    """Inspect episodes, and give each finding as soon as it is there.

    Args:
        dataset: Sent to every process once.
        inspector: A module-level function.
        indices: Which episodes; taken as processes become free.
        workers: How many processes; 0 looks in this one, without protection.
        timeout_s: How long one episode may take.
    """
    if workers == 0:
        yield from (inspector(dataset, index) for index in indices)
        return
    todo = iter(indices)
    crew = [_Worker(dataset, inspector) for _ in range(workers)]
    try:
        busy = [worker for worker in crew if worker.take(todo, timeout_s)]
        while busy:
            for worker in _ready(busy):
                finding = worker.finding(timeout_s)
                if worker.is_lost:
                    worker.replace()
                if not worker.take(todo, timeout_s):
                    busy.remove(worker)
                yield finding
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that inspects one episode at a time, and its successors."""

    def __init__(self, dataset: Dataset, inspector: Inspector) -> None:
        self._dataset = dataset
        self._inspector = inspector
        self._index = -1
        self._due_s = 0.0
        self._begin()

    @property
    def pipe(self) -> Connection:
        """Has something to be read when the process answered or died."""
        return self._pipe

    @property
    def patience_s(self) -> float:
        """How long it still may take."""
        return max(0.0, self._due_s - time.monotonic())

    def take(self, todo: Iterator[int], timeout_s: float) -> bool:
        """Give it the next episode; False if there is none."""
        index = next(todo, None)
        if index is None:
            return False
        self._index = index
        with contextlib.suppress(OSError):  # it died; the pipe's end says so
            self._pipe.recv()  # it is ready: starting up is not the episode's fault
            self._pipe.send(index)
        self._due_s = time.monotonic() + timeout_s
        return True

    def finding(self, timeout_s: float) -> Finding:
        """Its answer, or what became of it."""
        try:
            if self._pipe.poll():
                finding: Finding = self._pipe.recv()
                return finding
            defect = Defect("timed out", f"reading it took longer than {timeout_s:.0f} s")
        except (EOFError, OSError):
            self._process.join(_PATIENCE_S)
            defect = Defect("reader died", f"exit code {self._process.exitcode}")
        self.is_lost = True
        place = f"{self._dataset.root}#{self._index}"
        return Finding(self._index, self._dataset.name(self._index), place, defects=(defect,))

    def replace(self) -> None:
        """End the process and start another one."""
        self.end()
        self._begin()

    def end(self) -> None:
        """End the process, by force if it is busy."""
        self._pipe.close()
        if self.is_lost:
            self._process.kill()
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, self._dataset, self._inspector), daemon=True
        )
        self._process.start()
        theirs.close()
        self.is_lost = False


def _ready(busy: list[_Worker]) -> list[_Worker]:
    """Wait for the first that answered, died or took too long."""
    pipes = wait([worker.pipe for worker in busy], min(worker.patience_s for worker in busy))
    return [worker for worker in busy if worker.pipe in pipes or worker.patience_s == 0]


def _serve(pipe: Connection, dataset: Dataset, inspector: Inspector) -> None:
    """Say when ready, and answer indices with findings, until the other side hangs up."""
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            pipe.send("ready")
            pipe.send(inspector(dataset, pipe.recv()))
