"""The events of several sessions over one connection.

A browser opens six connections to a server and no more. A page that held one for every robot would have none left on
which to say stop.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
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
    streams: Streams, first: Sequence[tuple[str, dict[str, Any] | None]]
) -> AsyncIterator[bytes]:
    """Yield the events of sessions, each with its session's name, until all of them are over.

    Args:
        streams: Who is told.
        first: Names of sessions and what they are now; None where one does not exist any more.
    """
    joint = Listener(longest=_LONGEST_QUEUE)
    open_channels: set[str] = set()
    channels = []
    try:
        for session_id, description in first:
            if description is None:
                gone = json.dumps({"actor": ""})
                yield format_event("end", tagged(session_id, gone))
                continue
            channel = _Channel(session_id, joint, open_channels)
            streams.listen(session_id, channel)
            channels.append((session_id, channel))
            yield format_event("session", tagged(session_id, json.dumps(description)))
        if channels:
            async for event in joint.read():
                yield event
    finally:
        for session_id, channel in channels:
            streams.leave(session_id, channel)


def tagged(session_id: str, data: str) -> str:
    """Return a JSON object with the name of its session as the first key."""
    rest = data[1:] if data == "{}" else f",{data[1:]}"
    return f'{{"session":{json.dumps(session_id)}{rest}'
