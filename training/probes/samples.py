"""Labelled videos and images: lists and folders, and how a probe's sample is read from them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from models.config import FrozenConfig
from training.errors import ConfigurationError, DataError
from training.pretrain_config import AugmentationConfig
from training.probes.views import ClipConfig, evaluation_views, segment_rows, training_view
from training.videos import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoFiles
from trajectories.cameras import CameraStream

Classes = PositiveInt | tuple[str, ...]


class FilesConfig(FrozenConfig):
    """Labelled files."""

    kind: Literal["csv", "folder"] = Field(
        description="`csv`: lines of path and label, separated by a space, comma, tab or `::`; "
        "relative paths start at the list. `folder`: one folder per class."
    )
    path: str | None = Field(default=None, description="Where it lies; `--data` replaces it.")


class LabelledVideos(ABC):
    """Videos (or images) by number, each with a class.

    Attributes:
        classes: Names of the classes, by label.
    """

    classes: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """How many there are, readable or not."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What a video is called, for messages."""

    @abstractmethod
    def label(self, index: int) -> int:
        """Return the class of a video."""

    @abstractmethod
    def open(self, index: int) -> CameraStream:
        """Open a video; the caller closes it.

        Raises:
            TrajectoryError, OSError: It cannot be read.
        """

    @abstractmethod
    def identity(self, index: int) -> str:
        """Return what tells a video from another, or from what lay there before."""


class LabelledFiles(LabelledVideos):
    """Files with labels; use `open_files`."""

    def __init__(self, paths: Sequence[str], labels: Sequence[int], classes: Sequence[str]) -> None:
        self._files = VideoFiles(paths)
        self._paths = paths
        self._labels = labels
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Return the path."""
        return self._paths[index]

    def label(self, index: int) -> int:
        """Return the class of a file."""
        return self._labels[index]

    def open(self, index: int) -> CameraStream:
        """Open the file."""
        return self._files.open(index, np.random.default_rng(0))  # nothing to choose

    def identity(self, index: int) -> str:
        """Return path and size; a file that is missing has none."""
        path = Path(self._paths[index])
        return f"{path} {path.stat().st_size if path.is_file() else None}"


def open_files(split: str, config: FilesConfig, classes: Classes | None) -> LabelledFiles:
    """Find the labelled files of a split.

    Args:
        split: `train` or `validation`, for messages.
        config: Where they are.
        classes: How many there are, or their names; None: those that are found.

    Raises:
        ConfigurationError: There is no path.
        DataError: There is nothing, or a label is none of the classes; names line and label.
    """
    if config.path is None:
        raise ConfigurationError(f"data.{split} has no path; pass --data {split}=PATH")
    root = Path(config.path)
    found = _read_list(split, root) if config.kind == "csv" else _read_folder(split, root)
    if not found:
        raise DataError(f"data.{split}: there is no video and no image in {root}")
    names = _class_names([label for _, label, _ in found], classes)
    numbers = {name: number for number, name in enumerate(names)}
    for _, label, place in found:
        if label not in numbers:
            raise DataError(
                f"data.{split}: {place} has the label {label!r}, which is none of the "
                f"{len(names)} classes ({_sketch(names)}); correct it, or data.classes"
            )
    return LabelledFiles([p for p, _, _ in found], [numbers[label] for _, label, _ in found], names)


@dataclass(frozen=True)
class Sample:
    """What an encoder gets of one video.

    Attributes:
        clips: float32 `[V, S, 3, T, H, W]`, ImageNet-normalised.
        ahead_s: How far the future lies that is asked about [s]; None: nothing is anticipated.
    """

    clips: Tensor
    ahead_s: float | None = None


class Samples(ABC):
    """A split as probes see it."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are, readable or not."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What a sample is called."""

    @abstractmethod
    def labels(self, index: int) -> tuple[int, ...]:
        """Return the class for every question."""

    @abstractmethod
    def read(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Read a sample, at random as training does, or as evaluation does (None).

        Raises:
            TrainingError, TrajectoryError, OSError: It cannot be read.
        """

    @abstractmethod
    def frames(self, index: int, count: int) -> Tensor:
        """Return some frames of a sample to look at, uint8 RGB `[count, H, W, 3]`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of what the samples are and how they are read."""


class VideoSamples(Samples):
    """Videos to be classified.

    Args:
        videos: The videos.
        clips: Which frames, which parts.
        side_px: Side of the squares [px].
        augmentation: What training does to clips; None: they come as in evaluation.
    """

    def __init__(
        self,
        videos: LabelledVideos,
        clips: ClipConfig,
        side_px: int,
        augmentation: AugmentationConfig | None = None,
    ) -> None:
        self.videos = videos
        self._clips = clips
        self._side_px = side_px
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, index: int) -> str:
        """Return the video's name."""
        return self.videos.name(index)

    def labels(self, index: int) -> tuple[int, ...]:
        """Return the only label."""
        return (self.videos.label(index),)

    def read(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Cut clips out of a video."""
        stream = self.videos.open(index)
        try:
            rows = segment_rows(len(stream), stream.nominal_fps, self._clips, rng)
            frames = torch.unflatten(torch.from_numpy(stream.read(rows.ravel())), 0, rows.shape)
        finally:
            stream.close()
        if rng is None or self._augmentation is None:
            return Sample(evaluation_views(frames, self._clips, self._side_px))
        return Sample(training_view(frames, self._augmentation, self._side_px, rng))

    def frames(self, index: int, count: int) -> Tensor:
        """Return frames spread over the video."""
        stream = self.videos.open(index)
        try:
            rows = np.linspace(0, len(stream) - 1, count).round().astype(np.int64)
            return torch.from_numpy(stream.read(rows))
        finally:
            stream.close()

    def fingerprint(self) -> str:
        """Hash the videos' identities, the clips and the augmentation."""
        text = [self.videos.identity(index) for index in range(len(self))]
        text += [self._clips.model_dump_json(), str(self._side_px)]
        if self._augmentation is not None:
            text.append(self._augmentation.model_dump_json())
        return hashlib.sha256("\n".join(text).encode()).hexdigest()


def _class_names(labels: Sequence[str], classes: Classes | None) -> tuple[str, ...]:
    """Return the names of all classes: those given, counted, or found."""
    if isinstance(classes, tuple):
        return classes
    if classes is not None:
        return tuple(str(number) for number in range(classes))
    if all(label.isdigit() for label in labels):
        return tuple(str(number) for number in range(max(map(int, labels)) + 1))
    return tuple(sorted(set(labels)))


def _read_list(split: str, path: Path) -> list[tuple[str, str, str]]:
    """Read path, label and place of every line."""
    if not path.is_file():
        raise DataError(f"data.{split}: there is no list {path}")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        name, label = _fields(line)
        if not name or not label:
            raise DataError(f"data.{split}: {place} is {line!r}; expected a path and a label")
        found.append((str(path.parent / name), label, place))
    return found


def _fields(line: str) -> tuple[str, str]:
    for separator in ("::", "\t", ",", " "):
        name, found, label = line.strip().rpartition(separator)
        if found:
            return name.strip().strip('"'), label.strip()
    return "", ""


def _read_folder(split: str, root: Path) -> list[tuple[str, str, str]]:
    if not root.is_dir():
        raise DataError(f"data.{split}: there is no folder {root}")
    suffixes = VIDEO_SUFFIXES + IMAGE_SUFFIXES
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    found = [(str(path), path.relative_to(root).parts[0], str(path)) for path in paths]
    loose = [path for path, _, _ in found if Path(path).parent == root]
    if loose:
        raise DataError(f"data.{split}: {loose[0]} lies in no folder of a class; move it into one")
    return found


def _sketch(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{names[0]}, {names[1]} .. {names[-1]}"
