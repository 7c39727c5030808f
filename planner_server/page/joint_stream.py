"""The events of several sessions over one connection.

A browser opens six connections to a server and no more. A page that held one for every robot would have none left on
which to say stop.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from planner_server.streams import Listener, Streams, format_event

MOST_SESSIONS = 16
_LONGEST_QUEUE = 64


class _Channel(Listener):
    """Passes one session's events on, with the session's name."""

    def __init__(self, session_id: str, joint: Listener, open_channels: set[str]) -> None:
        super().__init__(longest=1)
        self._session_id = session_id
        self._joint = joint
        self._open = open_channels
        self._open.add(session_id)

    def put(self, kind: str, data: str) -> None:
        """Leave an event for the reader."""
        self._joint.put(kind, tagged(self._session_id, data))

    def close(self) -> None:
        """End the stream when this was the last session."""
        self._open.discard(self._session_id)
        if not self._open:
            self._joint.close()


async def follow(
    streams: Streams, names: Sequence[str], describe: Callable[[str], dict[str, Any] | None]
) -> AsyncIterator[bytes]:
    """Yield the events of sessions, each with its session's name, until all of them are over.

    Args:
        streams: Who is told.
        names: Of the sessions.
        describe: Returns what a session is now; None where it does not exist any more.
    """
    joint = Listener(longest=_LONGEST_QUEUE)
    open_channels: set[str] = set()
    channels = {name: _Channel(name, joint, open_channels) for name in names}
    try:
        for name, channel in channels.items():
            streams.listen(name, channel)
        # Looked at with every channel open and nothing awaited between: no change, and no end, falls into a gap.
        first = {name: describe(name) for name in channels}
        for name in [name for name, found in first.items() if found is None]:
            channels[name].close()
            streams.leave(name, channels.pop(name))
        for name, found in first.items():
            kind, data = ("end", {"actor": ""}) if found is None else ("session", found)
            yield format_event(kind, tagged(name, json.dumps(data)))
        async for event in joint.read():
            yield event
    finally:
        for name, channel in channels.items():
            streams.leave(name, channel)


def tagged(session_id: str, data: str) -> str:
    """Return a JSON object with the name of its session as the first key."""
    rest = data[1:] if data == "{}" else f",{data[1:]}"
    return f'{{"session":{json.dumps(session_id)}{rest}'
