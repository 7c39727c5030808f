"""Where operators give their orders: written down, saved, and passed on to the robots' door at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from planner_server.orders import GivenOrder, OrderBook, obedience_of
from planner_server.session import STOPPED, Session
from planner_server.store.archive import Archive
from planner_server.store.history import History
from planner_server.streams import Streams
from robot_client.protocol import Ack


@dataclass(frozen=True, eq=False)
class OrderDesk:
    """Takes orders, and the robots' word of what their arms do.

    Attributes:
        archive: Keeps orders.
        history: Keeps how they were obeyed.
        streams: Who watches.
        book: When orders were given and obeyed.
        doors: Told of sessions whose robots are to be told something; they return whether one is there.
    """

    archive: Archive
    history: History
    streams: Streams
    book: OrderBook = field(default_factory=OrderBook)
    doors: list[Callable[[Session], bool]] = field(default_factory=list)

    def give(
        self, session: Session, state: str, reason: str, actor: str
    ) -> tuple[GivenOrder, Future[None]]:
        """Pause, resume or stop the robot of a session, whom its door tells at once; the future: it is saved."""
        session.give_order(state, reason)
        given = self.book.give(session.id, session.order_number)
        told = [tell(session) for tell in self.doors]
        given.is_connected = any(told)
        self.archive.note(f"order_{state}", session.id, actor, reason, order=given.number)
        self.streams.publish(
            session.id, "state", {"state": state, "order": given.number, "reason": reason}
        )
        return given, self.archive.save_session(session)

    def stop_replacement(self, session: Session) -> Future[None] | None:
        """Stop a robot whose session was lost in a crash, where everything was stopped since: it was not told.

        Returns:
            The future: the order is saved; None where nobody has stopped everything.
        """
        order = self.book.stop_all
        if order is None:
            return None
        _, saved = self.give(session, STOPPED, order.reason, order.actor)
        return saved

    def acknowledge(self, session: Session, ack: Ack) -> None:
        """Note that the robot has heard of an order, and what its arm does."""
        given, is_news = self.book.acknowledge(ack), session.acknowledge(ack.order, ack.arm)
        if given is None and not is_news:
            return
        self.history.save_obedience(ack, given)
        self.archive.note("order_acknowledged", session.id, "robot", f"{ack.order}: {ack.arm}")
        self.streams.publish(session.id, "acknowledged", obedience_of(ack, given))
