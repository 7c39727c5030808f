"""The worker's in-tray: one place per sender, newer letters replace unread ones, the most urgent is read first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Letter = TypeVar("Letter")


@dataclass
class _Place(Generic[Letter]):
    letter: Letter
    due_s: float
    turn: int


class Mailbox(Generic[Letter]):
    """Thread-safe; every sender has one place, and its turn is that of the first letter that took it.

    A newer letter takes the place and not a new turn: whoever sends faster is not read more often, and because a
    turn has a fixed time at which it is due, nobody is overtaken for ever.
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place[Letter]] = {}
        self._changed = threading.Condition()
        self._turns = 0
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: Hashable, letter: Letter, due_s: float) -> Letter | None:
        """Leave a letter, due at the time `due_s`, and return the unread one it replaces, if any.

        Raises:
            RuntimeError: The mailbox is closed.
        """
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the mailbox is closed")
            place = self._places.get(key)
            self._changed.notify()
            if place is not None:
                replaced, place.letter = place.letter, letter
                return replaced
            self._turns += 1
            self._places[key] = _Place(letter, due_s, self._turns)
            return None

    def take(
        self,
        most: int,
        goes_with: Callable[[Letter, Letter], bool],
        goes_first: Callable[[Letter], bool] | None = None,
    ) -> list[Letter] | None:
        """Wait for letters; return the most urgent one and up to `most - 1` that go with it, in order of urgency.

        Args:
            most: Letters returned at most.
            goes_with: Whether two letters can be read together.
            goes_first: Which letters are read before the others this time, however urgent those are.

        Returns:
            None once the mailbox is closed and empty.
        """
        with self._changed:
            while not self._places and not self._is_closed:
                self._changed.wait()
            if not self._places:
                return None
            keys = sorted(self._places, key=self._urgency)
            if goes_first is not None:
                keys.sort(key=lambda key: not goes_first(self._places[key].letter))
            first = self._places[keys[0]].letter
            chosen = [keys[0]]
            for key in keys[1:]:
                if len(chosen) >= most:
                    break
                if goes_with(first, self._places[key].letter):
                    chosen.append(key)
            return [self._places.pop(key).letter for key in chosen]

    def close(self) -> None:
        """Refuse further letters; those that wait can still be read."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def clear(self) -> list[Letter]:
        """Empty the mailbox and return what was not read."""
        with self._changed:
            unread = [place.letter for place in self._places.values()]
            self._places.clear()
            return unread

    def _urgency(self, key: Hashable) -> tuple[float, int]:
        place = self._places[key]
        return place.due_s, place.turn
