"""The wire protocol: what goes round comes round, and nothing else gets in."""

import re
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client import codec, protocol
from robot_client.codec import EncodedImage
from robot_client.errors import ProtocolError
from robot_client.protocol import (
    Act,
    ActionLimits,
    Bye,
    ErrorReply,
    Hello,
    Observe,
    Ping,
    Pong,
    Welcome,
)

STATE = np.array([0.5, 0.0, 0.3, 3.0, 0.0, -1.0, 0.25])
LIMITS = ActionLimits(max_step_m=0.15, max_rotation_rad=0.0, max_gripper=1.0)


def act(**changes: object) -> Act:
    values: dict[str, object] = {
        "session": "s1",
        "seq": 7,
        "actions": np.zeros((2, 7)),
        "predicted_states": np.tile(STATE, (2, 1)),
        "energy": 0.4,
        "energy_now": 0.6,
        "encode_ms": 12.0,
        "plan_ms": 300.0,
        "queue_ms": 0.5,
        "evaluations": 384,
        "goal_index": 1,
        "dropped": 2,
        "warnings": ("the box is small",),
    }
    return Act(**{**values, **changes})  # type: ignore[arg-type]


def observe(**changes: object) -> Observe:
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    values: dict[str, object] = {
        "session": "s1",
        "seq": 7,
        "t_capture": 12.5,
        "frame": frame,
        "state": STATE,
        "goal_index": 1,
    }
    return Observe(**{**values, **changes})  # type: ignore[arg-type]


def welcome(**changes: object) -> Welcome:
    values: dict[str, object] = {
        "protocol": 1,
        "server": "server 1.0",
        "session": "s1",
        "model": "shipped",
        "frame_size": (128, 128),
        "control_period_s": 1.0,
        "action_limits": LIMITS,
        "planners": ("cem", "icem"),
    }
    return Welcome(**{**values, **changes})  # type: ignore[arg-type]


MESSAGES: list[protocol.Message] = [
    Hello(protocol=1, client="test", token="secret", session=None),
    welcome(),
    observe(),
    observe(frame=EncodedImage("jpeg", b"\xff\xd8some bytes")),
    act(),
    Ping(t=1.25),
    Pong(t=1.25),
    Bye(session="s1"),
    ErrorReply(code="no_goal", message="upload one", seq=3),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message: protocol.Message) -> None:
    again = protocol.decode(message.encode())
    assert type(again) is type(message)
    assert again.encode() == message.encode()


def test_an_observation_has_these_very_bytes() -> None:
    payload = Observe(
        session="s1",
        seq=7,
        t_capture=12.5,
        frame=np.array([[[1, 2, 3]]], np.uint8),
        state=np.array([0.5, 0.0, 0.25, 0.0, 0.0, 0.0, 1.0]),
    ).encode()
    expected = """
        88                                              a map of eight:
        a474797065           a76f627365727665           type: observe
        a773657373696f6e     a27331                     session: s1
        a3736571             07                         seq: 7
        a9745f63617074757265 cb4029000000000000         t_capture: 12.5
        a56672616d65         c70e01                     frame: extension 1 of 14 bytes
        93 a37c7531 93010103 c403010203                 (|u1, [1, 1, 3], 3 bytes)
        a57374617465         c74101                     state: extension 1 of 65 bytes
        93 a33c6638 9107     c438                       (<f8, [7], 56 bytes)
        000000000000e03f 0000000000000000               0.5, 0
        000000000000d03f 0000000000000000               0.25, 0
        0000000000000000 0000000000000000               0, 0
        000000000000f03f                                1
        aa676f616c5f696e646578 00                       goal_index: 0
        a9636f6d6d6974746564 c0                         committed: nothing
    """
    columns = [line.strip()[:48].replace(" ", "") for line in expected.strip().splitlines()]
    assert payload.hex() == "".join(columns)


def test_unknown_keys_are_ignored() -> None:
    payload = codec.pack({"type": "ping", "t": 1.0, "colour": "blue", "more": {"a": [1]}})
    assert protocol.decode(payload).encode() == Ping(t=1.0).encode()


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(ProtocolError, match="dance") as caught:
        protocol.decode(codec.pack({"type": "dance", "seq": 3}))
    assert (caught.value.code, caught.value.seq) == ("unknown_type", 3)


@pytest.mark.parametrize("number", [0, 2, "1", None, True])
def test_another_protocol_version_is_refused_whatever_its_fields(number: object) -> None:
    # True == 1 in Python; it must still be refused as malformed or unsupported.
    with pytest.raises(ProtocolError) as caught:
        protocol.decode(codec.pack({"type": "hello", "protocol": number, "client": "x"}))
    assert caught.value.code in ("unsupported_protocol", "malformed_message")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": np.full(7, np.nan)}, "invalid_state"),
        ({"state": np.zeros(6)}, "invalid_state"),
        ({"state": [0.0] * 7}, "invalid_state"),
        ({"state": np.array([500.0, 0, 300, 3, 0, 0, 0])}, "invalid_state"),
        ({"state": np.array([0.5, 0, 0.3, 180.0, 0, 0, 0])}, "invalid_state"),
        ({"state": np.array([0.5, 0, 0.3, 3, 0, 0, 80.0])}, "invalid_state"),
        ({"frame": np.zeros((4, 6), np.uint8)}, "invalid_frame"),
        ({"frame": np.zeros((4, 6, 3))}, "invalid_frame"),
        ({"frame": np.zeros((0, 6, 3), np.uint8)}, "invalid_frame"),
        ({"frame": {"encoding": "bmp", "data": b"x"}}, "invalid_frame"),
        ({"frame": {"encoding": "png"}}, "invalid_frame"),
        ({"seq": -1}, "malformed_message"),
        ({"seq": True}, "malformed_message"),
        ({"t_capture": float("inf")}, "malformed_message"),
        ({"goal_index": protocol.MAX_GOALS}, "malformed_message"),
        ({"session": ""}, "malformed_message"),
        ({"committed": np.zeros((5, 7))}, "malformed_message"),
        ({"committed": np.full((1, 7), 1e300)}, "malformed_message"),
    ],
)
def test_a_bad_observation_is_refused_with_its_code(changes: dict[str, object], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        observe(**changes)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": np.full((2, 7), np.inf)},
        {"actions": np.zeros((0, 7)), "predicted_states": np.zeros((0, 7))},
        {"actions": np.zeros((3, 7))},
        {"energy": float("nan")},
        {"energy": -1.0},
        {"warnings": ("x",) * 33},
        {"evaluations": 1.5},
    ],
)
def test_a_bad_plan_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        act(**changes)


def test_a_missing_field_is_named_with_the_observations_seq() -> None:
    with pytest.raises(ProtocolError, match="'session'") as caught:
        protocol.decode(codec.pack({"type": "observe", "seq": 9}))
    assert (caught.value.code, caught.value.seq) == ("malformed_message", 9)


def test_a_frame_may_travel_compressed() -> None:
    rng = np.random.default_rng(0)
    frame = np.repeat(np.repeat(rng.integers(0, 255, (8, 8, 3), np.uint8), 8, 0), 8, 1)
    for encoding, tolerance in (("png", 0), ("jpeg", 10)):
        message = observe(frame=codec.encode_image(frame, encoding))
        again = protocol.decode(message.encode())
        assert isinstance(again, Observe)
        assert isinstance(again.frame, codec.EncodedImage)
        decoded = again.frame.decode()
        assert decoded.shape == frame.shape
        assert np.abs(decoded.astype(int) - frame).mean() <= tolerance


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    # A valid PNG header of 60000 x 60000 px; nothing behind it is ever looked at.
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2
    jpeg = b"\xff\xd8\xff\xc0\0\x11\x08" + (60000).to_bytes(2, "big") * 2 + b"\x03"
    for image in (EncodedImage("png", header), EncodedImage("jpeg", jpeg)):
        with pytest.raises(ProtocolError, match="60000"):
            image.decode()


def test_every_error_code_is_documented_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    table = page.split("## ZMQ: errors")[1].split("##")[0]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(firsts))) == sorted(protocol.ERROR_CODES)


@given(st.binary(max_size=300))
def test_random_bytes_only_ever_raise_a_protocol_error(payload: bytes) -> None:
    decode_or_refuse(payload)


@given(
    index=st.integers(0, len(MESSAGES) - 1),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 12),
)
def test_damaged_messages_only_ever_raise_a_protocol_error(
    index: int, edits: list[tuple[int, int]], cut: int
) -> None:
    payload = bytearray(MESSAGES[index].encode())
    for position, value in edits:
        payload[position % len(payload)] = value
    decode_or_refuse(bytes(payload[: len(payload) - cut]))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    ["session", "seq", "frame", "state", "actions", "protocol", "action_limits", "t", "frame_size"]
)


@given(kind=st.sampled_from(sorted(protocol.MESSAGES)), values=st.dictionaries(_KEYS, _VALUES))
def test_well_packed_nonsense_only_ever_raises_a_protocol_error(
    kind: str, values: dict[str, object]
) -> None:
    decode_or_refuse(msgpack.packb({"type": kind, "protocol": 1, **values}))


@given(st.binary(max_size=60), st.integers(-128, 127))
def test_damaged_extensions_only_ever_raise_a_protocol_error(body: bytes, code: int) -> None:
    decode_or_refuse(msgpack.packb({"type": "ping", "t": msgpack.ExtType(code & 127, body)}))


def decode_or_refuse(payload: bytes) -> None:
    refusal = None
    try:
        protocol.decode(payload)
    except ProtocolError as error:
        refusal = error
    assert refusal is None or (refusal.code in protocol.ERROR_CODES and refusal.message)
