"""Damaged messages and senseless requests, by the thousand: an answer or a refusal, never a crash, a hang or a leak."""

import contextlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from robot_client import codec
from robot_client.errors import ProtocolError
from robot_client.protocol import (
    Ack,
    Act,
    Bye,
    Closing,
    ErrorReply,
    Hello,
    Observe,
    Pause,
    Ping,
    decode,
)

FRAME = np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8)
ROWS = np.zeros((2, 7))


def observation(session: str = "s", seq: int = 1, frame: Any = FRAME, **changes: Any) -> Observe:
    return Observe(session, seq, 1.5, frame, np.zeros(7), **changes)


REAL = [
    Hello(1, "fuzz", token="t", session="s", instance="i").encode(),
    observation().encode(),
    observation(frame=codec.encode_image(FRAME, "jpeg"), goal_index=None).encode(),
    observation(frame=codec.encode_image(FRAME, "png"), committed=ROWS).encode(),
    Ping(2.0).encode(),
    Bye("s").encode(),
    Ack("s", 3).encode(),
    Pause("s", 3, "why").encode(),
    Closing("end").encode(),
    ErrorReply("no_goal", "text", 3).encode(),
    Act("s", 1, ROWS, ROWS, 0.1, 0.2, 1.0, 2.0, 3.0, 4).encode(),
]


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Real messages with bytes changed, cut out, doubled, or joined to others."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(REAL[rng.integers(len(REAL))])
        for _ in range(rng.integers(1, 5)):
            place = int(rng.integers(len(data) + 1))
            match int(rng.integers(5)):
                case 0 if place < len(data):
                    data[place] = int(rng.integers(256))
                case 1:
                    del data[place : place + int(rng.integers(1, 9))]
                case 2:
                    data[place:place] = rng.bytes(int(rng.integers(1, 9)))
                case 3:
                    data = data[: max(place, 1)]
                case _:
                    other = REAL[rng.integers(len(REAL))]
                    data[place:place] = other[: int(rng.integers(1, 40))]
        yield bytes(data)


def decode_all(count: int, seed: int) -> int:
    """Decode mutations, frames included, and return how many were messages still."""
    messages = 0
    for payload in mutations(count, seed):
        with contextlib.suppress(ProtocolError):
            message = decode(payload)
            messages += 1
            if isinstance(message, Observe) and isinstance(message.frame, codec.EncodedImage):
                message.frame.decode()
    return messages


def test_mutated_messages_are_decoded_or_refused() -> None:
    assert 0 < decode_all(10_000, seed=1) < 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_mutated_messages_cost_no_memory() -> None:
    decode_all(2_000, seed=0)
    tracemalloc.start()
    decode_all(2_000, seed=0)
    before = tracemalloc.get_traced_memory()[0]
    assert decode_all(100_000, seed=2) > 0
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2_000_000  # 20 bytes a message: nothing of them is kept


def test_a_server_that_is_sent_mutations_answers_the_next_robot(
    server: Any, robots: Callable[[str], Any]
) -> None:
    fuzzer, robot = robots(server.zmq), robots(server.zmq)
    before = sessions(server)
    for payload in mutations(2_000, seed=4):
        fuzzer.socket.send(payload)
    assert robot.ping() < 20.0
    assert robot.greet().session
    assert sessions(server) <= before + 2  # the fuzzer's own hello may have got through, once


def sessions(server: Any) -> int:
    return len(httpx.get(f"{server.url}/v1/sessions").json()["sessions"])


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("type", "session", "seq", "frame", "state", "t_capture", "goal_index", "committed")


@settings(max_examples=100, deadline=None)
@given(
    values=st.dictionaries(st.sampled_from(FIELDS), PLAIN),
    kind=st.sampled_from(["observe", "hello", "ack"]),
)
def test_any_values_in_any_field_are_decoded_or_refused(values: dict[str, Any], kind: str) -> None:
    with contextlib.suppress(OverflowError), contextlib.suppress(ProtocolError):
        decode(msgpack.packb({**values, "type": kind}))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(payload=st.binary(max_size=400))
def test_any_bytes_sent_to_a_server_are_answered(
    server: Any, fuzz_robot: Any, payload: bytes
) -> None:
    assert isinstance(fuzz_robot.ask(payload), ErrorReply)


@pytest.fixture
def fuzz_robot(server: Any, robots: Callable[[str], Any]) -> Any:
    return robots(server.zmq)


@pytest.fixture(scope="module")
def description(server: Any) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/openapi.json").json())


def ask_everything(server: Any, description: dict[str, Any], examples: int) -> int:
    """Send what the description allows, and what it does not, to every operation; return how many requests."""
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=server.url)
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/stream"):
            continue  # has no end

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            response = case.call()
            case.validate_response(response, checks=[not_a_server_error])
            if response.status_code >= 400:
                body = json.loads(response.text)
                assert set(body) == {"code", "message", "request_id"}

        ask()
    return asked


def test_nothing_that_the_api_allows_breaks_it(server: Any, description: dict[str, Any]) -> None:
    assert ask_everything(server, description, examples=4) >= 50


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_that_the_api_allows_breaks_it_however_often(
    server: Any, description: dict[str, Any]
) -> None:
    assert ask_everything(server, description, examples=150) >= 1500
