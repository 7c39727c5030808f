"""How fast recorded episodes are indexed and read, and in how much memory.

python -m benchmarks.trajectories [--data DROID_TREE] [--episodes 400] [--windows 1000]

The data is a tree of many copies of raw DROID episodes: those of `--data`, or made-up ones of the
same size. Windows are 8 frames, one second apart, at a random place of a random episode. Three ways
read the same windows: this package, OpenCV, and decoding the whole file. Whatever is read is held
against decoding in order.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import ArrayCamera
from trajectories.dataset import Dataset, open_dataset
from trajectories.droid_raw_writer import write_episode
from trajectories.episode import Episode, Provenance
from trajectories.inspection import Finding, inspect, inspect_frames
from trajectories.scan import scan
from trajectories.storage import locate
from trajectories.video import VideoCamera
from trajectories.video_writer import VideoWriter

Frames = NDArray[np.uint8]
Read = Callable[[Path, NDArray[np.int64]], Frames]

_FRAMES = 8
_VIEW = "left"
_MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_COMPARED = 60  # windows read in every way


@dataclass(frozen=True)
class Window:
    """Frames to read: a file, and rows of it."""

    file: Path
    rows: NDArray[np.int64]


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = _sources(options.data, root / "sources")
        tree = _multiply(sources, root / "tree", options.episodes)
        dataset = open_dataset(tree)
        print(f"{len(dataset)} episodes, {len(sources)} of them different")
        _measure_memory(dataset, options.windows)  # first: a peak does not go down again
        _measure_index(dataset)
        _measure_windows("these episodes", _windows(dataset, _COMPARED))
        _measure_windows("600 frames of 640x360, key frame every 250", _long(root, 250))
        _measure_windows("600 frames of 640x360, key frame every 10", _long(root, 10))


def _measure_index(dataset: Dataset) -> None:
    print("\nindexing                         episodes/s")
    for what, inspector in (("tables only", inspect), ("every frame", inspect_frames)):
        count = len(dataset) if inspector is inspect else min(len(dataset), 16)
        for workers in (0, 2):
            started = time.monotonic()
            findings: list[Finding] = list(scan(dataset, inspector, range(count), workers))
            seconds = time.monotonic() - started
            assert all(finding.is_usable for finding in findings)
            place = f"{workers} processes" if workers else "this process"
            print(f"  {what}, {place:14s} {count / seconds:12.1f}")


def _measure_windows(title: str, windows: Sequence[Window]) -> None:
    print(f"\n{title}: one window of {_FRAMES} frames      ms  right")
    expected = {window.file: _decode_all(window.file) for window in windows}
    for name, read in (("this package", _ours), ("OpenCV", _opencv), ("whole file", _whole)):
        elapsed, right = [], 0
        for window in windows:
            started = time.monotonic()
            frames = read(window.file, window.rows)
            elapsed.append(time.monotonic() - started)
            right += _is_same(frames, expected[window.file][window.rows])
        print(f"  {name:14s} {1000 * float(np.mean(elapsed)):8.1f}  {right}/{len(windows)}")


def _measure_memory(dataset: Dataset, count: int) -> None:
    print(f"\nresident memory over {count} windows        MiB")
    rng = np.random.default_rng(0)
    started = time.monotonic()
    for number in range(1, count + 1):
        with dataset.open(int(rng.integers(len(dataset)))) as episode:
            stride = round(episode.fps)
            start = int(rng.integers(len(episode) - stride * (_FRAMES - 1)))
            episode.camera(_VIEW).read(start + stride * np.arange(_FRAMES))
        if number in {count // 10, count // 2, count}:
            print(f"  after {number:6d}  {_resident_mib('VmRSS'):10.1f}")
    print(f"  peak          {_resident_mib('VmHWM'):10.1f}")
    print(f"  {count / (time.monotonic() - started):.1f} windows/s, episode opened for each")


def _ours(file: Path, rows: NDArray[np.int64]) -> Frames:
    camera = VideoCamera(locate(file), rows=int(rows[-1]) + 1, first_s=0.0)
    frames = camera.read(rows)
    camera.close()
    return frames


def _opencv(file: Path, rows: NDArray[np.int64]) -> Frames:
    capture = cv2.VideoCapture(str(file))
    frames = []
    for row in rows:
        capture.set(cv2.CAP_PROP_POS_FRAMES, float(row))
        _, frame = capture.read()
        frames.append(frame[..., ::-1])
    capture.release()
    return np.stack(frames)


def _whole(file: Path, rows: NDArray[np.int64]) -> Frames:
    return _decode_all(file)[rows]


def _decode_all(file: Path) -> Frames:
    import av

    with av.open(str(file)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def _is_same(frames: Frames, expected: Frames) -> bool:
    """Whether it is the same picture; decoders differ in how they turn YUV into RGB."""
    return float(np.abs(frames.astype(int) - expected).mean()) < 3.0


def _windows(dataset: Dataset, count: int) -> list[Window]:
    rng = np.random.default_rng(0)
    windows = []
    for _ in range(count):
        with dataset.open(int(rng.integers(len(dataset)))) as episode:
            stride = round(episode.fps)
            start = int(rng.integers(len(episode) - stride * (_FRAMES - 1)))
            stream = episode.camera(_VIEW)
            assert isinstance(stream, VideoCamera)
            rows = start + stride * np.arange(_FRAMES)
            windows.append(Window(Path(stream.file.path), rows))
    return windows


def _long(root: Path, key_frame_every: int) -> list[Window]:
    """Windows of a long file, encoded as recorders do."""
    path = root / f"long-{key_frame_every}.mp4"
    writer = VideoWriter(path, (360, 640), 15, key_frame_every=key_frame_every)
    for row in range(600):
        writer.write(_picture(row, (360, 640)))
    writer.close()
    rng = np.random.default_rng(1)
    starts = rng.integers(600 - 15 * _FRAMES, size=12)
    return [Window(path, start + 15 * np.arange(_FRAMES)) for start in starts]


def _picture(row: int, size: tuple[int, int]) -> Frames:
    """A textured ground that drifts, with a block on it."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    ground = (
        90 + 40 * np.sin((x + row) / 17) * np.cos((y - row / 2) / 23) + 20 * np.sin(x * y / 999)
    )
    frame = np.repeat(ground[..., None], 3, axis=2).astype(np.uint8)
    left = (3 * row) % (size[1] - 40)
    frame[60:100, left : left + 40] = (220, 60, 40)
    return frame


def _sources(data: Path | None, folder: Path) -> list[Path]:
    """Folders of different raw episodes."""
    if data is not None:
        found = open_dataset(data)
        return [Path(found.open(number).provenance.location) for number in range(len(found))]
    made = []
    for seed in range(2):
        frames = np.stack([_picture(40 * seed + row, (192, 320)) for row in range(80)])
        rng = np.random.default_rng(seed)
        drift = np.cumsum(rng.normal(0, 0.004, (80, 7)), axis=0)
        states = np.array([0.4, 0.0, 0.3, 3.0, 0.1, 0.2, 0.5]) + drift
        episode = Episode(
            name=f"made-up-{seed}",
            states=states,
            times_s=np.arange(80) / 5,
            cameras={view: ArrayCamera(frames) for view in ("left", "right", "wrist")},
            clock="measured",
            provenance=Provenance("made up", "nowhere"),
        )
        made.append(write_episode(episode, folder / episode.name))
    return made


def _multiply(sources: Sequence[Path], tree: Path, count: int) -> Path:
    for number in range(count):
        target = tree / "LAB" / "success" / "2024-01-01" / f"run_{number:06d}"
        shutil.copytree(sources[number % len(sources)], target, copy_function=shutil.copyfile)
    return tree


def _resident_mib(name: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / _MIB for line in lines if line.startswith(name))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a raw DROID tree; made up when left out")
    parser.add_argument("--episodes", type=int, default=400, help="copies, default 400")
    parser.add_argument("--windows", type=int, default=1000, help="for memory, default 1000")
    return parser.parse_args()


if __name__ == "__main__":
    main()
