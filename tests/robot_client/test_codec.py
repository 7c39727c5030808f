"""Arrays on the wire, and the bounds that keep a stranger's message small."""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot_client import codec
from robot_client.errors import ProtocolError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(codec.DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))


@given(ARRAYS)
def test_arrays_come_back_bit_for_bit_and_writable(array: np.ndarray) -> None:
    again = codec.unpack(codec.pack({"a": array}))["a"]
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable


def test_memory_order_does_not_matter() -> None:
    array = np.arange(12, dtype=np.float64).reshape(3, 4)
    assert codec.pack({"a": array.T}) == codec.pack({"a": np.ascontiguousarray(array.T)})


@pytest.mark.parametrize("dtype", ["O", "<U4", ">f8", "<c16", "<f2", "|b1"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(ProtocolError, match="dtype"):
        codec.pack({"a": np.zeros(2, dtype)})


@pytest.mark.parametrize(
    "body",
    [
        ("<f8", [2], b"\0" * 15),
        ("<f8", [2**40, 2**40], b""),
        ("<f8", [-1], b""),
        ("<f8", [True], b"\0" * 8),
        ("|O8", [1], b"\0" * 8),
        ("<f8", 1, b"\0" * 8),
        ("<f8", [1]),
        ("<f8", [1, 1, 1, 1, 1], b"\0" * 8),
    ],
)
def test_arrays_that_lie_about_themselves_are_refused(body: tuple[object, ...]) -> None:
    extension = msgpack.ExtType(codec.ARRAY_EXT_TYPE, msgpack.packb(body))
    with pytest.raises(ProtocolError):
        codec.unpack(msgpack.packb({"a": extension}))


def test_a_message_beyond_the_limit_is_too_large() -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.unpack(b"\0" * (codec.MAX_MESSAGE_BYTES + 1))
    assert caught.value.code == "too_large"
    with pytest.raises(ProtocolError) as caught:
        codec.pack({"a": np.zeros((2400, 2400, 3), np.uint8)})
    assert caught.value.code == "too_large"


def test_nesting_cannot_multiply_memory() -> None:
    nested: object = []
    for _ in range(3):
        nested = [nested] * 60
    with pytest.raises(ProtocolError, match="more than"):
        codec.unpack(msgpack.packb({"a": nested}))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        codec.unpack(b"\x91" * 100_000)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 30])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    for encoding in codec.IMAGE_ENCODINGS:
        with pytest.raises(ProtocolError):
            codec.EncodedImage(encoding, data).decode()


def test_a_truncated_image_does_not_crash() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (32, 32, 3), np.uint8)
    for encoding in codec.IMAGE_ENCODINGS:
        data = codec.encode_image(frame, encoding).data
        for length in (len(data) // 2, len(data) - 3, 40):
            with contextlib.suppress(ProtocolError):
                decoded = codec.EncodedImage(encoding, data[:length]).decode()
                assert decoded.shape == frame.shape
