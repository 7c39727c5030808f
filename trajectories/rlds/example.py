"""`tf.train.Example` messages without TensorFlow: a protobuf map from names to lists."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import CorruptDataError

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]
"""Bytes, floats or integers; an empty list stands for a feature that says nothing."""


def parse_example(data: bytes) -> dict[str, Feature]:
    """Decode a `tf.train.Example`.

    Raises:
        CorruptDataError: It is none.
    """
    try:
        features = {}
        for number, entries in _fields(memoryview(data)):
            if number == 1:
                for _, entry in _fields(_message(entries)):
                    name, feature = _map_entry(_message(entry))
                    features[name] = feature
    except (IndexError, ValueError, TypeError, struct.error) as error:
        raise CorruptDataError(f"a record of {len(data)} bytes is no Example: {error}") from error
    return features


def encode_example(features: dict[str, Feature]) -> bytes:
    """Encode a `tf.train.Example`."""
    entries = b"".join(
        _block(1, _block(1, name.encode()) + _block(2, _encode_feature(feature)))
        for name, feature in features.items()
    )
    return _block(1, entries)


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and contents of a message's fields."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _varint(data, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(data):
            raise ValueError("a field ends after its message")
        yield tag >> 3, data[place : place + length]
        place += length


def _message(content: memoryview | int) -> memoryview:
    if isinstance(content, int):
        raise TypeError("a number where a message was expected")
    return content


def _map_entry(entry: memoryview) -> tuple[str, Feature]:
    parts = {number: _message(content) for number, content in _fields(entry)}
    feature: Feature = []
    for kind, values in _fields(parts.get(2, memoryview(b""))):
        feature = _values(kind, _message(values))
    return bytes(parts.get(1, b"")).decode(), feature


def _values(kind: int, values: memoryview) -> Feature:
    if kind == 1:
        return [bytes(_message(content)) for _, content in _fields(values)]
    if kind == 2:
        floats = b"".join(bytes(_message(content)) for _, content in _fields(values))
        return np.frombuffer(floats, "<f4").astype(np.float32)
    if kind == 3:
        return np.array([n for _, content in _fields(values) for n in _ints(content)], np.int64)
    raise ValueError(f"feature kind {kind}")


def _ints(content: memoryview | int) -> Iterator[int]:
    if isinstance(content, int):
        yield _signed(content)
        return
    place = 0
    while place < len(content):
        value, place = _varint(content, place)
        yield _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _encode_feature(feature: Feature) -> bytes:
    if isinstance(feature, list):
        return _block(1, b"".join(_block(1, value) for value in feature))
    if feature.dtype == np.float32:
        return _block(2, _block(1, feature.astype("<f4").tobytes()))
    return _block(3, _block(1, b"".join(_encode_varint(int(n) % (1 << 64)) for n in feature)))


def _block(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
