"""Who listens to sessions, and how many may."""

import pytest

from planner_server.errors import PlannerError
from planner_server.streams import Streams


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
