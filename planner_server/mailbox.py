"""The worker's in-tray: one place per sender, a newer letter replaces an unread older one, read in fair turns."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Letter = TypeVar("Letter")


class Mailbox(Generic[Letter]):
    """Thread-safe; every key holds at most one letter and keeps its turn when the letter is replaced.

    Whoever was read joins the end of the queue with the next letter, so no sender can starve another.
    """

    def __init__(self) -> None:
        self._letters: OrderedDict[Hashable, Letter] = OrderedDict()
        self._changed = threading.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._letters)

    def put(self, key: Hashable, letter: Letter) -> Letter | None:
        """Leave a letter and return the unread one it replaces, if any.

        Raises:
            RuntimeError: The mailbox is closed.
        """
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the mailbox is closed")
            replaced = self._letters.get(key)
            self._letters[key] = letter
            self._changed.notify()
            return replaced

    def take(self) -> Letter | None:
        """Wait for the next letter in turn; None says that the mailbox was closed."""
        with self._changed:
            while not self._letters and not self._is_closed:
                self._changed.wait()
            return None if self._is_closed else self._letters.popitem(last=False)[1]

    def close(self) -> list[Letter]:
        """Refuse further letters, wake the reader and return what was not read."""
        with self._changed:
            self._is_closed = True
            unread = list(self._letters.values())
            self._letters.clear()
            self._changed.notify_all()
            return unread
