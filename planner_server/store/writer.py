"""One thread that writes to the database, so that nobody who plans ever waits for a disk.

What cannot be written now is kept, up to a limit, and tried again; beyond the limit the oldest is lost, and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

logger = logging.getLogger(__name__)

Write = Callable[[Connection], None]

_LARGEST_TRANSACTION = 256
_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _Entry:
    write: Write
    done: Future[None]


class Writer:
    """Writes in the order of `put`, several writes to a transaction.

    Args:
        engine: Where to.
        max_waiting: Writes kept while the database does not take them.
        retry_s: Time between attempts [s].
    """

    def __init__(
        self, engine: Engine, max_waiting: int = 10_000, retry_s: float = _RETRY_S
    ) -> None:
        self._engine = engine
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._entries: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_writing = False
        self.lost = 0
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, write: Write) -> Future[None]:
        """Queue a write and return at once; the future ends when it is on disk, or fails when it is lost."""
        entry = _Entry(write, Future())
        dropped = None
        with self._changed:
            if self._is_closed:
                entry.done.set_exception(RuntimeError("the writer is closed"))
                return entry.done
            self._entries.append(entry)
            if len(self._entries) > self._max_waiting:
                dropped = self._entries.popleft()
                self.lost += 1
            self._changed.notify_all()
        if dropped is not None:
            _fail(dropped, OverflowError("too much waits to be written"))
        return entry.done

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything put so far is written; False when the time is up."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._entries or self._is_writing:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return False
        return True

    def close(self) -> None:
        """Write what waits, if the database takes it within seconds, and end the thread."""
        if not self.flush(_CLOSE_TIMEOUT_S):
            logger.error("%d records could not be saved: %s", len(self), self.problem)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_TIMEOUT_S)

    # Below: called by the thread only ---------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            self._write(batch)
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                if self.problem is not None and not self._is_closed:
                    self._changed.wait_for(lambda: self._is_closed, self._retry_s)

    def _take(self) -> list[_Entry] | None:
        with self._changed:
            while not self._entries and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return None
            size = min(len(self._entries), _LARGEST_TRANSACTION)
            self._is_writing = True
            return [self._entries.popleft() for _ in range(size)]

    def _write(self, batch: list[_Entry]) -> None:
        try:
            self._commit(batch)
        except (OperationalError, OSError) as error:
            self._keep(batch, error)
        except Exception:  # noqa: BLE001 - one of them is bad; the others shall not suffer
            self._write_singly(batch)

    def _write_singly(self, batch: list[_Entry]) -> None:
        """Write one by one, and lose what is refused; once the database is away, the rest keeps its order."""
        for index, entry in enumerate(batch):
            try:
                self._commit([entry])
            except (OperationalError, OSError) as error:  # noqa: PERF203 - each has its own fate
                self._keep(batch[index:], error)
                return
            except Exception as error:  # noqa: BLE001 - whatever a record has in it, the thread goes on
                logger.error("a record is refused by the database and lost: %s", error)
                self.lost += 1
                _fail(entry, error)

    def _commit(self, batch: list[_Entry]) -> None:
        with self._engine.begin() as connection:
            for entry in batch:
                entry.write(connection)
        if self.problem is not None:
            logger.info("the database takes records again")
        self.problem = None
        for entry in batch:
            entry.done.set_result(None)

    def _keep(self, batch: list[_Entry], error: Exception) -> None:
        """Put a batch back to its place: the disk may be freed, the database may come back."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        if self.problem != reason:
            logger.error("the database does not take records: %s; planning goes on", reason)
        self.problem = reason
        with self._changed:
            self._entries.extendleft(reversed(batch))
            while len(self._entries) > self._max_waiting:
                self.lost += 1
                _fail(self._entries.popleft(), error)


def _fail(entry: _Entry, error: Exception) -> None:
    entry.done.set_exception(error)
