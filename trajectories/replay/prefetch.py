"""Get the next items ready in a thread of their own, so that decoding hides behind planning."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_S = 0.1


@dataclass(frozen=True)
class _End:
    """Nothing more comes; `error` says why, where that was not the plan."""

    error: BaseException | None


class Prefetch(Generic[Item]):
    """An iterator over `items` that runs ahead of whoever takes them.

    Args:
        items: Consumed in another thread, and there only.
        depth: How many finished items may wait; bounds memory.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._waiting: queue.Queue[Item | _End] = queue.Queue(depth)
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(items,), name="prefetch", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Generator[Item, None, None]:
        """Yield the items in order; an error of theirs comes where it arose. Closing it ends the thread."""
        try:
            while not isinstance(item := self._waiting.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            self._is_over.set()
            self._thread.join()

    def _fill(self, items: Iterator[Item]) -> None:
        end = _End(None)
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes the items
            end = _End(error)
        self._put(end)

    def _put(self, item: Item | _End) -> bool:
        while not self._is_over.is_set():
            try:
                self._waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
