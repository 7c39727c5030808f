"""Who listens to sessions, and how many may."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from planner_server import streams as streams_module
from planner_server.errors import PlannerError
from planner_server.options import PlanOptions
from planner_server.page import routes as page
from planner_server.routes import operation
from planner_server.security.tokens import EVERYBODY, TokenRing
from planner_server.settings import Settings
from planner_server.start import Parts, serving
from planner_server.streams import Streams

MakeSettings = Callable[..., Settings]


def test_room_is_refused_exactly_where_listening_would_be() -> None:
    streams = Streams(2)
    streams.check_room(2)
    with pytest.raises(PlannerError, match="at most") as refused:
        streams.check_room(3)
    assert refused.value.code == "busy"
    first = streams.listen("a")
    streams.listen("b")
    for ask in (streams.check_room, lambda: streams.listen("c")):
        with pytest.raises(PlannerError, match="at most"):
            ask()
    streams.leave("a", first)
    streams.check_room()
    streams.close()
    with pytest.raises(PlannerError) as closed:
        streams.check_room()
    assert closed.value.code == "shutting_down"


@contextlib.asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[tuple[Parts, list[str]]]:
    """A running service with two sessions, whose doors the test opens by itself."""
    async with serving(settings, TokenRing([])) as parts:
        made = [parts.service.create_session(PlanOptions(), EVERYBODY) for _ in range(2)]
        yield parts, [session.id for session, _ in made]


async def heard(stream: Any) -> list[str]:
    """Return a stream's events once it has ended."""

    async def read() -> list[str]:
        return [bytes(each).decode() async for each in stream.body_iterator]

    return await asyncio.wait_for(read(), 10.0)


def test_a_session_that_ends_before_its_stream_begins_ends_the_stream(
    make_settings: MakeSettings,
) -> None:
    async def talk() -> list[list[str]]:
        async with following(make_settings()) as (parts, (name, _)):
            streams = [
                await operation.stream(parts, EVERYBODY, name),
                await page.stream(parts, EVERYBODY, [name]),
            ]
            parts.service.end_session(name, "test")  # the answers are not being read yet
            said = [await heard(stream) for stream in streams]
            assert len(parts.service.streams) == 0
            return said

    for events in asyncio.run(talk()):
        assert [event.split()[1] for event in events] == ["end"]


def test_a_session_that_ends_while_a_joint_stream_begins_does_not_end_it_for_the_others(
    make_settings: MakeSettings,
) -> None:
    async def talk() -> list[str]:
        async with following(make_settings()) as (parts, (first, second)):
            stream = await page.stream(parts, EVERYBODY, [first, second])
            events = stream.body_iterator
            said = [bytes(await anext(events)).decode()]
            parts.service.end_session(first, "test")
            parts.service.streams.publish(second, "plan", {"seq": 1})
            parts.service.end_session(second, "test")
            return said + await heard(stream)

    events = [event.split()[1] for event in asyncio.run(talk())]
    assert events == ["session", "session", "end", "plan", "end"]


def test_a_silent_stream_is_kept_alive_and_its_next_event_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "_KEEP_ALIVE_S", 0.02)

    async def talk() -> list[bytes]:
        listener = Streams(1).listen("a")
        said = listener.read()
        heard = [await anext(said), await anext(said)]
        listener.put("plan", "{}")
        listener.close()
        return heard + [each async for each in said]

    first, second, *rest = asyncio.run(talk())
    assert first == second == b": keep-alive\n\n"
    assert b"event: plan\ndata: {}\n\n" in rest
