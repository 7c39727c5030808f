"""Video files as camera streams: exact frames by index, through PyAV.

Opening a file reads its table of frames, not the frames. A frame is found by its presentation
time: seek to the key frame before it, decode up to it, give back that one and no other. Frames
that come in order are decoded once; only the frames asked for are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import CameraStream, Frames
from trajectories.errors import CorruptDataError, LengthMismatchError
from trajectories.storage import Location

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class FrameTable:
    """When each frame of a file is shown and where decoding can start.

    Attributes:
        shown: Presentation times in order, int64 `[N]`, in ticks of the file's time base.
        key_rows: Frames that can be decoded without others, int64 `[K]`, ascending.
        key_seeks: What to seek to for each of them, int64 `[K]`, in ticks.
    """

    shown: NDArray[np.int64]
    key_rows: NDArray[np.int64]
    key_seeks: NDArray[np.int64]


class VideoCamera(CameraStream):
    """The frames of one episode in a video file.

    Args:
        file: Anything FFmpeg can read and seek.
        rows: Frames of the episode.
        first_s: When its first frame is shown [s], in a file of many episodes. None: the file is
            this episode's alone and has to have just as many frames as the episode has rows.

    Raises:
        CorruptDataError: On first use: the file cannot be opened or is cut short.
        LengthMismatchError: On first use: the file has other than the frames it should have.
    """

    def __init__(self, file: Location, rows: int, first_s: float | None = None) -> None:
        self.file = file
        self._rows = rows
        self._first_s = first_s
        self._first = 0
        self._opened: OpenVideo | None = None

    def __len__(self) -> int:
        return self._rows

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self.open().frame_size

    @property
    def nominal_fps(self) -> float | None:  # type: ignore[override]
        """Playback rate written in the file [frames/s]."""
        return self.open().nominal_fps

    @property
    def is_whole_file(self) -> bool:
        """Whether the file is this episode's alone."""
        return self._first_s is None

    def open(self) -> OpenVideo:
        """Open the file and hold it against the episode, unless that was done."""
        if self._opened is None:
            video = OpenVideo(self.file)
            self._first = video.row_at(self._first_s) if self._first_s is not None else 0
            frames = len(video.table.shown) - self._first
            if frames < self._rows or (self._first_s is None and frames != self._rows):
                video.close()
                raise LengthMismatchError(
                    f"{self.file} has {frames} frames of an episode of {self._rows} rows",
                    max(0, frames),
                )
            self._opened = video
        return self._opened

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _read(self, rows: NDArray[np.int64]) -> Frames:
        video = self.open()
        if not rows.size:
            return np.empty((0, *video.frame_size, 3), np.uint8)
        order = np.argsort(rows, kind="stable")
        previous = int(rows[order[0]])
        decoded = video.frame(previous + self._first)
        frames = np.empty((len(rows), *decoded.shape), np.uint8)
        for place in order:
            if rows[place] != previous:
                previous = int(rows[place])
                decoded = video.frame(previous + self._first)
            frames[place] = decoded
        return frames


class OpenVideo:
    """An open file, and how far its decoder has come."""

    def __init__(self, file: Location) -> None:
        import av

        self._file = file
        try:
            self._source: Any = file.av_source()
            self._container: InputContainer = av.open(self._source, mode="r")
            self._stream = _video_stream(self._container)
            self.table = _frame_table(self._container, self._stream, file)
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            raise CorruptDataError(f"{file} is not a video that can be read: {error}") from error
        rate = self._stream.average_rate
        self.nominal_fps = float(rate) if rate else None
        self.frame_size = (self._stream.height, self._stream.width)
        self._decoding: Iterator[Any] | None = None
        self._next = 0  # the frame that decoding gives next

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        if hasattr(self._source, "close"):
            self._source.close()

    def row_at(self, time_s: float) -> int:
        """The frame shown at a time [s]; half a frame beside it is still that frame."""
        ticks = time_s / float(self._stream.time_base or 1) + int(self.table.shown[0])
        return int(np.argmin(np.abs(self.table.shown - ticks)))

    def frame(self, row: int) -> Frames:
        """Decode frame `row` of the file, uint8 RGB `[H, W, 3]`."""
        import av

        key = int(np.searchsorted(self.table.key_rows, row, side="right")) - 1
        try:
            if self._decoding is None or not self._is_ahead(row, key):
                self._seek(key)
            decoded = self._decode_until(row)
            pixels: Frames = decoded.to_ndarray(format="rgb24")
        except (av.FFmpegError, OSError, ValueError) as error:  # remote files raise the second
            raise CorruptDataError(f"frame {row} of {self._file} is damaged: {error}") from error
        if pixels.shape[:2] != self.frame_size:
            raise CorruptDataError(
                f"frame {row} of {self._file} is {pixels.shape[:2]}; "
                f"the file began with {self.frame_size}"
            )
        return pixels

    def _is_ahead(self, row: int, key: int) -> bool:
        """Whether decoding on reaches `row` sooner than seeking."""
        return self._next <= row and (key < 0 or int(self.table.key_rows[key]) <= self._next)

    def _seek(self, key: int) -> None:
        target = int(self.table.key_seeks[key]) if key >= 0 else int(self.table.shown[0])
        self._container.seek(target, stream=self._stream, backward=True)
        self._decoding = self._container.decode(self._stream)
        self._next = int(self.table.key_rows[key]) if key >= 0 else 0

    def _decode_until(self, row: int) -> Any:
        target = int(self.table.shown[row])
        for frame in self._decoding or ():
            if frame.is_corrupt:
                break
            if frame.pts is not None and frame.pts >= target:
                if frame.pts != target:
                    break
                self._next = row + 1
                return frame
        self._decoding = None
        raise CorruptDataError(f"frame {row} of {self._file} is missing or cannot be decoded")


def _video_stream(container: InputContainer) -> VideoStream:
    """The first video stream, its decoder told how to behave."""
    stream: VideoStream = container.streams.video[0]
    if stream.codec_context is None:
        raise ValueError("its codec is not known")
    # One thread: bounded memory, and data loaders bring their own parallelism.
    stream.codec_context.thread_count = 1
    # Decoders paint over damage unless they are told not to.
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def _frame_table(container: InputContainer, stream: VideoStream, file: Location) -> FrameTable:
    """Take the table from the container's index; read all packets where that does not suffice."""
    entries = getattr(stream, "index_entries", ())  # older PyAV has none
    stamps = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    is_regular = len(stamps) > 1 and len(set(np.diff(stamps).tolist())) == 1
    if len(stamps) != stream.frames or not is_regular or stream.start_time is None:
        return _table_of_packets(container, stream, file)
    _check_length(file, max(entry.pos + entry.size for entry in entries))
    keys = np.array([entry.is_keyframe for entry in entries], dtype=bool)
    # Decoding starts at a key frame's place in the file, which is before its time of display.
    return FrameTable(stream.start_time + stamps - stamps[0], np.flatnonzero(keys), stamps[keys])


def _table_of_packets(container: InputContainer, stream: VideoStream, file: Location) -> FrameTable:
    packets = [
        (packet.pts, packet.dts if packet.dts is not None else packet.pts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.pts is not None
    ]
    if not packets:
        raise CorruptDataError(f"{file} holds no frame")
    shown = np.sort(np.array([pts for pts, _, _ in packets], dtype=np.int64))
    keys = sorted((pts, dts) for pts, dts, is_key in packets if is_key)
    rows = np.searchsorted(shown, np.array([pts for pts, _ in keys], dtype=np.int64))
    container.seek(int(shown[0]), stream=stream, backward=True)
    return FrameTable(shown, rows, np.array([dts for _, dts in keys], dtype=np.int64))


def _check_length(file: Location, needed: int) -> None:
    size = file.size()
    if size < needed:
        raise CorruptDataError(f"{file} is cut short: {size} bytes of at least {needed}")
