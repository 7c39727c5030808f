"""Addresses that open one thing, once, for a minute: for what a browser fetches without the header with the token."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

_LIFETIME_S = 60.0
_MOST = 1000
_BYTES = 24


class Tickets:
    """The tickets that are still good. Lives on the event loop.

    Args:
        clock: Source of time [s]; a test passes its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._good: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def issue(self, name: str) -> str:
        """Make a ticket for what is called `name`; the caller has been asked for a token before."""
        ticket = secrets.token_urlsafe(_BYTES)
        self._good[ticket] = name, self._clock() + _LIFETIME_S
        if len(self._good) > _MOST:
            self._good.popitem(last=False)
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """Return what a ticket is for, and tear it up; None where it is none, or no longer one."""
        name, good_until_s = self._good.pop(ticket, ("", 0.0))
        return name if name and self._clock() < good_until_s else None
