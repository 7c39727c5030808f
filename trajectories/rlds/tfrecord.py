"""TFRecord files without TensorFlow.

A record is its length (uint64), a masked CRC-32C of the length, the data, and a masked CRC-32C of
the data, little-endian.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import IO

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import CorruptDataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_LANES = 4096
_MAX_RECORD_BYTES = 1 << 32  # a longer one is a damaged length


def record_offsets(file: IO[bytes], size: int, name: str) -> list[tuple[int, int]]:
    """Find the records of a file by their headers, skipping the data.

    Args:
        file: Open and seekable.
        size: Of the file in bytes.
        name: For messages.

    Returns:
        Offset and length of every record's data. Nothing is returned of a file that is cut short.

    Raises:
        CorruptDataError: A header is damaged, or the last record is not whole.
    """
    found: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise CorruptDataError(f"{name} is cut short in the header of record {len(found)}")
        length, checksum = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != checksum or length > _MAX_RECORD_BYTES:
            raise CorruptDataError(f"the header of record {len(found)} of {name} is damaged")
        found.append((offset + _HEADER.size, length))
        offset += _HEADER.size + length + _FOOTER.size
    if offset != size:
        raise CorruptDataError(f"{name} is cut short in record {len(found) - 1}")
    return found


def read_record(file: IO[bytes], offset: int, length: int, name: str) -> bytes:
    """Read one record's data and check it.

    Raises:
        CorruptDataError: It is damaged or cut short.
    """
    file.seek(offset)
    content = file.read(length + _FOOTER.size)
    if len(content) < length + _FOOTER.size:
        raise CorruptDataError(f"{name} is cut short at byte {offset}")
    data = content[:length]
    if masked_crc32c(data) != _FOOTER.unpack(content[length:])[0]:
        raise CorruptDataError(f"the record at byte {offset} of {name} is damaged (checksum)")
    return data


def write_record(file: IO[bytes], data: bytes) -> None:
    """Append one record."""
    length = struct.pack("<Q", len(data))
    file.write(length + _FOOTER.pack(masked_crc32c(length)))
    file.write(data + _FOOTER.pack(masked_crc32c(data)))


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord files."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C of data of any length, in numpy.

    The data is cut into lanes that are run through the table side by side. A checksum without its
    initial value is linear: leading zeros do not count, and lanes are joined by shifting the left
    one over the length of the right one.
    """
    table = _table()
    if len(data) < 64:
        value = 0xFFFFFFFF
        for byte in data:
            value = int(table[(value ^ byte) & 0xFF]) ^ (value >> 8)
        return value ^ 0xFFFFFFFF
    width = -(-len(data) // _LANES)
    padded = np.zeros(width * _LANES, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[len(padded) - len(data) :][:4] ^= 0xFF  # the initial value
    lanes = np.ascontiguousarray(padded.reshape(_LANES, width).T)
    values = np.zeros(_LANES, np.uint32)
    for column in lanes:
        values = table[(values ^ column) & 0xFF] ^ (values >> np.uint32(8))
    shift = _shift_matrix(width)
    while len(values) > 1:
        values = _apply(shift, values[0::2]) ^ values[1::2]
        shift = _apply(shift, shift)
    return int(values[0]) ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = (values >> np.uint32(1)) ^ np.where(
            values & 1, np.uint32(_POLYNOMIAL), np.uint32(0)
        )
    return values


def _shift_matrix(zero_bytes: int) -> NDArray[np.uint32]:
    """What `zero_bytes` zeros do to a checksum: the images of its 32 bits."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _table()[bits & 0xFF] ^ (bits >> np.uint32(8))  # one zero byte
    result = bits
    while zero_bytes:
        if zero_bytes & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        zero_bytes >>= 1
    return result


def _apply(matrix: NDArray[np.uint32], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Multiply checksums by a matrix over the two-element field."""
    result = np.zeros_like(values)
    for bit in range(32):
        result ^= np.where((values >> np.uint32(bit)) & 1, matrix[bit], np.uint32(0))
    return result
