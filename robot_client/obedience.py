"""Obeying the server's orders, and telling it what became of them.

An order reaches the arm in the call that received it. The acknowledgement says what the arm does, not
what it was told: "standing" is sent once it has been seen at rest. One that takes longer is
acknowledged as "stopping" first, so that somebody who has pressed a button soon knows that it was heard.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from robot_client.errors import ArmError
from robot_client.protocol import Ack, Order, Resume, Stop

logger = logging.getLogger(__name__)

_HEARD_WITHIN_S = 0.15
_LOOK_EVERY_S = 0.01
_GIVE_UP_AFTER_S = 2.0
_SETTLED = ("standing", "free")  # otherwise another acknowledgement follows
_STATES = {"pause": "paused", "resume": "running", "stop": "stopped"}


class Body(Protocol):
    """What carries orders out."""

    def obey(self, order: Order) -> None:
        """Tell the arm, without waiting for it."""

    def hold(self) -> None:
        """Bring the arm to rest, without waiting for it: an order was missed."""

    def end(self, order: Order) -> None:
        """End the run, after a stop; what it raises comes out of the call that polled."""

    def is_moving(self) -> bool:
        """Whether the arm still moves noticeably. Raises `ArmError` where that cannot be told."""

    def note(self, ack: Ack) -> None:
        """Write down what the server was told."""


class Bodiless:
    """For clients that move nothing."""

    def obey(self, order: Order) -> None:
        """Nothing to tell."""

    def hold(self) -> None:
        """Nothing moves."""

    def end(self, order: Order) -> None:
        """Nothing to end."""

    def is_moving(self) -> bool:
        """Never."""
        return False

    def note(self, ack: Ack) -> None:
        """Nothing to write down."""


@dataclass(eq=False)
class _UnderWay:
    order: Order
    t_arrived: float
    t_applied: float | None = None
    is_heard: bool = False


class Obedience:
    """The orders of one session.

    Args:
        send: Sends an acknowledgement, now or never: the server repeats what it misses.

    Attributes:
        body: Carries orders out.
        state: "running", "paused" or "stopped", as the server last ordered.
        obeyed: So many orders so far; a plan asked for before the last one is void.
    """

    def __init__(self, send: Callable[[Ack], object]) -> None:
        self._send = send
        self._newest = -1
        self._under_way: _UnderWay | None = None
        self._last: Ack | None = None
        self.body: Body = Bodiless()
        self.state = "running"
        self.obeyed = 0

    def begin(self, session: str, state: str) -> None:
        """Take over the state of a session that was just greeted.

        Another session, or a server that lost its last records, counts its orders from the beginning:
        an order taken for an old one would be acknowledged without being obeyed. Whoever has read
        "stopping" still waits for the end of that, and the server does not repeat what was acknowledged;
        where it says another state, it may give that order's number to its next one.
        """
        self._newest, self._last = -1, None
        order = self._under_way and self._under_way.order
        if order and (order.session != session or _STATES[order.TYPE] != state):
            self._under_way = None
        if state == "running" and self.state != "running":
            # A server that crashed may have lost the order; a resume that was missed is repeated.
            text = "%s, though the server says running: holding until somebody resumes"
            logger.warning(text, self.state)
        elif state != self.state:
            logger.warning("the server says that this session is %s", state)
            self.obeyed += 1
            self.state = state
            if state != "running":
                self.body.hold()  # its order is repeated, but may be a while in coming

    def void(self) -> None:
        """Hold, as for an order: the session is lost, and what was planned in it is void."""
        self.obeyed += 1
        self.body.hold()

    def take(self, order: Order) -> None:
        """Carry an order out, once; acknowledge it every time.

        Returns at once, but for a stop: after that nobody calls `report` any more, so the arm is
        waited for, for a moment.
        """
        if order.order <= self._newest:
            if self._last is not None:
                self._send(dataclasses.replace(self._last, order=order.order))
            return
        self._newest, self._last = order.order, None
        self.obeyed += 1
        self.state = _STATES[order.TYPE]
        self._under_way = under_way = _UnderWay(order, time.monotonic())
        try:
            self.body.obey(order)
        except ArmError:
            self._acknowledge(under_way, "unknown")
            raise
        under_way.t_applied = time.monotonic()
        self.report()
        if isinstance(order, Stop):
            while self._under_way is under_way and _since(under_way) < _GIVE_UP_AFTER_S:
                time.sleep(_LOOK_EVERY_S)
                self.report()
            self.body.end(order)

    def report(self) -> None:
        """Acknowledge an order under way, as soon as there is something to say."""
        under_way = self._under_way
        if under_way is None:
            return
        if isinstance(under_way.order, Resume):
            self._acknowledge(under_way, "free")
            return
        try:
            is_moving = self.body.is_moving()
        except ArmError as error:
            if self._last is None or self._last.arm != "unknown":  # said once, and looked at again
                logger.warning("after %s: %s", under_way.order.TYPE, error)
                self._acknowledge(under_way, "unknown")
            return
        if not is_moving:
            self._acknowledge(under_way, "standing")
        elif not under_way.is_heard and _since(under_way) > _HEARD_WITHIN_S:
            self._acknowledge(under_way, "stopping")

    def _acknowledge(self, under_way: _UnderWay, arm: str) -> None:
        order, under_way.is_heard = under_way.order, True
        self._under_way = None if arm in _SETTLED else under_way
        self._last = Ack(
            session=order.session,
            order=order.order,
            arm=arm,
            t_applied=under_way.t_applied,
            applied_ms=1e3 * _since(under_way),
        )
        self._send(self._last)
        self.body.note(self._last)


def _since(under_way: _UnderWay) -> float:
    return time.monotonic() - under_way.t_arrived
