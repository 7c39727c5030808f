"""Encode frames into MP4 files, and copy encoded ones from file to file.

Every file has one frame per row, no frame is shown before one that was encoded earlier, and the
first frame is a key frame; so files can be cut short and joined without decoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trajectories.errors import CorruptDataError, InvalidEpisodeError

Codec = Literal["h264", "av1"]

KEY_FRAME_EVERY = 10

_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"crf": "18", "preset": "veryfast", "tune": "zerolatency"}),
    "av1": ("libsvtav1", {"crf": "24", "preset": "8", "svtav1-params": "pred-struct=1"}),
}
# Each frame is complete on disk when it is written; a cut cable costs the last one.
_LIVE_FLAGS = "frag_every_frame+empty_moov+default_base_moof"


class VideoWriter:
    """Encode one camera's frames.

    Args:
        path: The file to write.
        frame_size: Height and width [px], both even.
        fps: Rate that is written into the file [frames/s].
        codec: `h264`, or `av1` (a third of the size, several times the work).
        is_live: Keep the file readable at every moment, for recording.
        key_frame_every: Frames from one key frame to the next: what a random access has to decode
            at most.

    Raises:
        InvalidEpisodeError: The size or the codec cannot be encoded.
    """

    def __init__(
        self,
        path: Path,
        frame_size: tuple[int, int],
        fps: float,
        codec: Codec = "h264",
        *,
        is_live: bool = False,
        key_frame_every: int = KEY_FRAME_EVERY,
    ) -> None:
        import av

        if codec not in _ENCODERS:
            raise InvalidEpisodeError(f"codec {codec!r} is none of {', '.join(get_args(Codec))}")
        if frame_size[0] % 2 or frame_size[1] % 2:
            raise InvalidEpisodeError(f"frames of {frame_size} px; video needs even sides")
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise
        self._shape = (*frame_size, 3)
        self._file = path.open("wb", buffering=0) if is_live else None
        options = {"movflags": _LIVE_FLAGS, "flush_packets": "1"} if is_live else {}
        self._container = av.open(self._file or str(path), "w", format="mp4", options=options)
        encoder, settings = _ENCODERS[codec]
        rate = as_rate(fps)
        stream: Any = self._container.add_stream(encoder, rate=rate, options=settings)
        stream.height, stream.width = frame_size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = key_frame_every
        stream.codec_context.max_b_frames = 0
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        self._stream = stream
        self._count = 0

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add a frame, uint8 RGB `[H, W, 3]`.

        Raises:
            InvalidEpisodeError: It has another shape or type.
        """
        import av

        self.check(frame)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self._count
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def check(self, frame: NDArray[np.uint8]) -> None:
        """Refuse a frame that does not fit.

        Raises:
            InvalidEpisodeError: It has another shape or type.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise InvalidEpisodeError(
                f"a frame is {frame.dtype}{frame.shape}; expected uint8{self._shape}"
            )

    def sync(self) -> None:
        """Have the operating system put on disk what was written; live files only."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: The disk is full or broken; a live file keeps its whole frames and is closed.
        """
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            try:
                self._container.close()
            finally:
                if self._file is not None:
                    self.sync()
                    self._file.close()


def as_rate(fps: float) -> Fraction:
    """A frame rate as the fraction that a video file holds.

    Raises:
        InvalidEpisodeError: It is not positive.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise InvalidEpisodeError(f"a rate of {fps} frames/s; it has to be positive")
    return Fraction(fps).limit_denominator(1001)


def count_whole_frames(path: Path) -> int:
    """How many frames at the file's beginning are whole; 0 if it cannot be opened."""
    import av

    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in _whole_packets(container))
    except (av.FFmpegError, IndexError):
        return 0


@dataclass(frozen=True)
class Piece:
    """The first `count` frames of a file."""

    path: Path
    count: int


def join(pieces: Iterable[Piece], path: Path, fps: float) -> None:
    """Copy the frames of files one after the other into one file, without decoding.

    Args:
        pieces: Written by `VideoWriter` with one size and codec.
        path: The file to write; it appears only when it is whole.
        fps: Rate of the new file [frames/s].

    Raises:
        CorruptDataError: A file has fewer whole frames than it should.
    """
    draft = path.with_suffix(".draft.mp4")
    try:
        _copy(pieces, draft, as_rate(fps))
    except OSError:
        draft.unlink(missing_ok=True)  # on a full disk it would keep the room that others need
        raise
    draft.replace(path)


def _copy(pieces: Iterable[Piece], path: Path, rate: Fraction) -> None:
    import av

    shown = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as output:
        target: Any = None
        for piece in pieces:
            with av.open(str(piece.path)) as source:
                if target is None:
                    target = output.add_stream_from_template(source.streams.video[0], opaque=True)
                    target.time_base = 1 / rate
                count = 0
                for packet in _whole_packets(source):
                    if count == piece.count:
                        break
                    packet.stream = target
                    packet.time_base = 1 / rate
                    packet.pts = packet.dts = shown
                    packet.duration = 1
                    output.mux(packet)
                    shown += 1
                    count += 1
            if count != piece.count:
                raise CorruptDataError(f"{piece.path} has {count} whole frames of {piece.count}")


def _whole_packets(container: Any) -> Iterator[Any]:
    import av

    try:
        for packet in container.demux(container.streams.video[0]):
            if packet.size and packet.pts is not None:
                if packet.is_corrupt:
                    return
                yield packet
    except av.FFmpegError:
        return  # the rest of the file is missing
