"""Camera streams: frames by index, decoded when they are asked for and never kept.

Every stream counts frames from 0; frame i belongs to row i of its episode. Video files are in
`trajectories.video`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import CorruptDataError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

Frames = NDArray[np.uint8]
Rows = Sequence[int] | NDArray[np.integer[Any]]


class CameraStream(ABC):
    """The frames of one camera during one episode."""

    nominal_fps: float | None = None
    """Playback rate written in the file [frames/s]; not a clock, see `trajectories.clock`."""

    @abstractmethod
    def __len__(self) -> int:
        """How many frames there are."""

    @property
    @abstractmethod
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px]."""

    @abstractmethod
    def _read(self, rows: NDArray[np.int64]) -> Frames:
        """Decode frames by valid index."""

    def read(self, rows: Rows) -> Frames:
        """Decode frames by index, in any order and as often as asked.

        Args:
            rows: Frame indices; negative ones are refused.

        Returns:
            uint8 RGB `[len(rows), H, W, 3]`.

        Raises:
            IndexError: An index is not in the stream.
            CorruptDataError: A frame cannot be decoded.
        """
        chosen = np.asarray(rows, dtype=np.int64).reshape(-1)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(
                f"frames {chosen.min()}..{chosen.max()} were asked for; there are {len(self)}"
            )
        return self._read(chosen)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Decode one frame `[H, W, 3]` after the other, holding only one."""
        for row in range(start, len(self) if stop is None else stop):
            yield self.read([row])[0]

    def close(self) -> None:  # noqa: B027 - a stream without files has nothing to let go of
        """Let go of files; reading opens them again."""


class ArrayCamera(CameraStream):
    """Frames that are an array already, in memory or memory-mapped: uint8 `[T, H, W, 3]`."""

    def __init__(self, frames: Frames, nominal_fps: float | None = None) -> None:
        self._frames = frames
        self.nominal_fps = nominal_fps

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px]."""
        height, width = self._frames.shape[1:3]
        return height, width

    def _read(self, rows: NDArray[np.int64]) -> Frames:
        return np.ascontiguousarray(self._frames[rows])


class ImageCamera(CameraStream):
    """Frames that are one compressed image each (JPEG or PNG), as RLDS stores them."""

    def __init__(self, images: Sequence[bytes], nominal_fps: float | None = None) -> None:
        self._images = images
        self.nominal_fps = nominal_fps

    def __len__(self) -> int:
        return len(self._images)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px], from the first image."""
        height, width = decode_image(self._images[0]).shape[:2]
        return height, width

    def _read(self, rows: NDArray[np.int64]) -> Frames:
        if not rows.size:
            return np.empty((0, *self.frame_size, 3), np.uint8)
        return np.stack([decode_image(self._images[row]) for row in rows])


class SelectedCamera(CameraStream):
    """Some rows of another stream, in the order given."""

    def __init__(self, stream: CameraStream, rows: NDArray[np.int64]) -> None:
        self._stream = stream
        self._rows = rows
        self.nominal_fps = stream.nominal_fps

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self._stream.frame_size

    def _read(self, rows: NDArray[np.int64]) -> Frames:
        return self._stream.read(self._rows[rows])

    def close(self) -> None:
        """Let go of the underlying files."""
        self._stream.close()


def decode_image(data: bytes) -> Frames:
    """Decode a JPEG or PNG into uint8 RGB `[H, W, 3]`.

    Raises:
        CorruptDataError: It is neither, or damaged.
    """
    import av

    codec = "png" if data.startswith(b"\x89PNG") else "mjpeg"
    decoder: VideoCodecContext = av.CodecContext.create(codec, "r")  # type: ignore[assignment]
    try:
        decoded = decoder.decode(av.Packet(data)) + decoder.decode(None)
    except (av.FFmpegError, ValueError) as error:
        raise CorruptDataError(
            f"an image of {len(data)} bytes cannot be decoded: {error}"
        ) from error
    if not decoded:
        raise CorruptDataError(f"an image of {len(data)} bytes holds no picture")
    return np.asarray(decoded[0].to_ndarray(format="rgb24"), np.uint8)
