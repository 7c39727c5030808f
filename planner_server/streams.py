"""What people watch: every session's events to whoever listens, as server-sent events. Lives on the event loop."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from planner_server.errors import PlannerError

_KEEP_ALIVE_S = 15.0
_LONGEST_QUEUE = 16


class Listener:
    """One open stream; a reader that is too slow loses the oldest events and is told how many."""

    def __init__(self, longest: int = _LONGEST_QUEUE) -> None:
        self._longest = longest
        self._events: deque[tuple[str, str]] = deque(maxlen=longest)
        self._has_events = asyncio.Event()
        self._missed = 0
        self._is_closed = False

    def put(self, kind: str, data: str) -> None:
        """Leave an event for the reader."""
        if len(self._events) == self._longest:
            self._missed += 1
        self._events.append((kind, data))
        self._has_events.set()

    def close(self) -> None:
        """End the stream after what lies ready."""
        self._is_closed = True
        self._has_events.set()

    async def read(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the stream is closed."""
        while True:
            try:
                await asyncio.wait_for(self._has_events.wait(), _KEEP_ALIVE_S)
            except asyncio.TimeoutError:
                yield b": keep-alive\n\n"
                continue
            self._has_events.clear()
            while self._events:
                if self._missed:  # said where the gap is, which may come about while this waits
                    missed, self._missed = self._missed, 0
                    yield format_event("missed", json.dumps({"events": missed}))
                    continue
                yield format_event(*self._events.popleft())
            if self._is_closed:
                return


class Streams:
    """The listeners of all sessions.

    Args:
        most: Streams open at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._listeners: dict[str, set[Listener]] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return sum(len(listeners) for listeners in self._listeners.values())

    def is_watched(self, session_id: str) -> bool:
        """Whether anybody listens to a session."""
        return session_id in self._listeners

    def listen(self, session_id: str, listener: Listener | None = None) -> Listener:
        """Begin to listen to a session; whoever does must `leave`.

        Args:
            session_id: Which one.
            listener: Who listens; None makes a new one.

        Raises:
            PlannerError: `busy` or `shutting_down`.
        """
        self.check_room()
        listener = Listener() if listener is None else listener
        self._listeners.setdefault(session_id, set()).add(listener)
        return listener

    def check_room(self, count: int = 1) -> None:
        """Refuse what `listen` would refuse: before an answer begins, which cannot turn into an error.

        Raises:
            PlannerError: `busy` or `shutting_down`.
        """
        if self._is_closed:
            raise PlannerError(
                "shutting_down", "the server is stopping; listen again when it is back"
            )
        if len(self) + count > self._most:
            raise PlannerError("busy", f"{self._most} streams are open at most; close some of them")

    def leave(self, session_id: str, listener: Listener) -> None:
        """Stop listening."""
        listeners = self._listeners.get(session_id, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(session_id, None)

    def publish(self, session_id: str, kind: str, data: dict[str, Any]) -> None:
        """Tell whoever listens to a session."""
        listeners = self._listeners.get(session_id)
        if listeners:
            text = json.dumps(data, separators=(",", ":"))
            for listener in listeners:
                listener.put(kind, text)

    def end(self, session_id: str) -> None:
        """Close the streams of a session that is over."""
        for listener in self._listeners.get(session_id, set()):
            listener.close()

    def close(self) -> None:
        """Close all streams, now and to come."""
        self._is_closed = True
        for session_id in list(self._listeners):
            self.end(session_id)


def format_event(kind: str, data: str) -> bytes:
    """Return one server-sent event; `data` is JSON and has no line breaks."""
    return f"event: {kind}\ndata: {data}\n\n".encode()
