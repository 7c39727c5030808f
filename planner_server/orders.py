"""Orders on their way from an operator to an arm: when each was given, and when its robot did what.

Lives on the event loop, so nothing here locks.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot_client.protocol import Ack

STANDING, STOPPING, FREE = "standing", "stopping", "free"
_MOST = 1024  # orders remembered; an older one is acknowledged without its time being told


@dataclass(eq=False)
class GivenOrder:
    """One order to one robot.

    Attributes:
        session_id: Whose robot it is for.
        number: The session's count of orders.
        given_s: When it was given, on the book's clock [s].
        given_at: The same in seconds since 1970, UTC.
        is_connected: Whether a robot was there to be told.
        arm: What the robot said of its arm last: standing, stopping, free or unknown; None before it said anything.
        obeyed_ms: Time to its first acknowledgement [ms].
        standing_ms: Time until it reported an arm at rest [ms].
    """

    session_id: str
    number: int
    given_s: float
    given_at: float
    is_connected: bool = False
    arm: str | None = None
    obeyed_ms: float | None = None
    standing_ms: float | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def obeyed_at(self) -> float | None:
        """When it was first acknowledged [s since 1970]."""
        return None if self.obeyed_ms is None else self.given_at + 1e-3 * self.obeyed_ms

    @property
    def standing_at(self) -> float | None:
        """When the arm was reported at rest [s since 1970]."""
        return None if self.standing_ms is None else self.given_at + 1e-3 * self.standing_ms

    def note(self, arm: str, after_ms: float) -> bool:
        """Note what the robot says of its arm; returns whether that was not known yet."""
        if arm == self.arm or self.arm == STANDING:
            return False
        self.arm = arm
        if self.obeyed_ms is None:
            self.obeyed_ms = after_ms
        if arm == STANDING:
            self.standing_ms = after_ms
        if arm != STOPPING:  # else another acknowledgement follows
            self.settled.set()
        return True


@dataclass(frozen=True)
class StopAll:
    """The order to stop everything: why, and by whom."""

    reason: str
    actor: str


class OrderBook:
    """The orders that this process has given of late.

    Args:
        clock: Source of time [s]; a test passes its own.

    Attributes:
        stop_all: The last one since this process began; None: nobody has stopped everything.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.stop_all: StopAll | None = None
        self._given: OrderedDict[tuple[str, int], GivenOrder] = OrderedDict()

    def give(self, session_id: str, number: int) -> GivenOrder:
        """Write down an order that is given now."""
        given = GivenOrder(session_id, number, self._clock(), time.time())
        self._given[session_id, number] = given
        if len(self._given) > _MOST:
            self._given.popitem(last=False)
        return given

    def find(self, session_id: str, number: int) -> GivenOrder | None:
        """Return an order, where this process gave it and not too long ago."""
        return self._given.get((session_id, number))

    def acknowledge(self, ack: Ack) -> GivenOrder | None:
        """Note a robot's word about an order; returns the order where that word is news."""
        given = self.find(ack.session, ack.order)
        if given is None or not given.note(ack.arm, 1e3 * (self._clock() - given.given_s)):
            return None
        return given


def obedience_of(ack: Ack, given: GivenOrder | None) -> dict[str, Any]:
    """Return the stream's event about an acknowledgement; times are null for orders of an earlier process."""
    return {
        "order": ack.order,
        "arm": ack.arm,
        "applied_ms": ack.applied_ms,
        "after_ms": given and given.obeyed_ms,
        "standing_ms": given and given.standing_ms,
    }


async def wait_until_settled(orders: Sequence[GivenOrder], timeout_s: float) -> None:
    """Wait until the robots that were told have done what they were told, or the time is up."""
    waits = [asyncio.ensure_future(each.settled.wait()) for each in orders if each.is_connected]
    if not waits:
        return
    _, pending = await asyncio.wait(waits, timeout=timeout_s)
    for wait in pending:
        wait.cancel()
