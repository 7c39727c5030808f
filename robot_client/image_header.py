"""What an image file says about itself before it is decoded: its size, and whether its end is there.

Whoever decodes first and looks then has already given the memory that a forged header asked for.
"""

import struct

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 1024  # where the end marker is looked for; some cameras append padding


def read_format(data: bytes) -> str | None:
    """Return "png", "jpeg" or "webp" by the first bytes; None for anything else."""
    if data.startswith(_PNG_MAGIC):
        return "png"
    if data.startswith(_JPEG_MAGIC):
        return "jpeg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def read_size(data: bytes) -> tuple[int, int]:
    """Return height and width [px] as the header states them.

    Raises:
        ValueError: This is no PNG, JPEG or WebP file, or its header is cut short.
    """
    readers = {"png": _png_size, "jpeg": _jpeg_size, "webp": _webp_size}
    kind = read_format(data)
    if kind is None:
        raise ValueError("not a PNG, JPEG or WebP file")
    try:
        return readers[kind](data)
    except (struct.error, IndexError) as error:
        raise ValueError("the header is cut short") from error


def is_whole(data: bytes) -> bool:
    """Whether the file ends as its format demands; decoders fill a missing part with grey and say nothing."""
    kind = read_format(data)
    if kind == "png":
        return b"IEND" in data[-_TAIL_BYTES:]
    if kind == "jpeg":
        return _JPEG_END in data[-_TAIL_BYTES:]
    return len(data) >= 8 and struct.unpack_from("<I", data, 4)[0] + 8 <= len(data)


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        marker, length = struct.unpack_from(">xBH", data, position)
        if data[position] != 0xFF:
            raise ValueError("no marker where one must be")
        if marker == 0xFF:  # padding before a marker
            position += 1
            continue
        # SOF0..SOF15 carry the size; C4, C8 and CC share the range but are other segments.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 2 + length


def _webp_size(data: bytes) -> tuple[int, int]:
    if len(data) < 30:
        raise ValueError("the header is cut short")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError("an unknown kind of WebP")
    return height, width
