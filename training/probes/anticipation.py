"""EPIC-KITCHENS-100: which action begins a second from now (arXiv 2006.13256; arXiv 2506.09985, section 6)?

Two protocols, and a result is worth nothing without its name:

- `standard`: the clip ends before the action *begins*, as the challenge defines anticipation.
- `reference`: the clip ends before the action *ends*, as the published evaluation code has it. An
  action that lasts longer than the anticipation time has then begun inside of the clip.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import DataError
from training.pretrain_config import AugmentationConfig
from training.probes.samples import Sample, Samples
from training.probes.views import ClipConfig, evaluation_views, training_view
from training.videos import VideoFiles
from trajectories.cameras import CameraStream

Protocol = Literal["standard", "reference"]
Layout = Literal["nested", "flat"]
"""Where a video lies: `nested`: P01/videos/P01_01.MP4; `flat`: P01/P01_01.MP4."""

QUESTIONS: Final = ("verb", "noun", "action")
_COLUMNS: Final = (
    "participant_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class",
)  # fmt: skip


@dataclass(frozen=True)
class Action:
    """An annotated action.

    Attributes:
        name: Its id, for messages.
        participant: Who was filmed.
        video: Id of the recording.
        start_s: When it begins [s].
        stop_s: When it ends [s].
        verb: Class of the verb, as annotated.
        noun: Class of the noun, as annotated.
    """

    name: str
    participant: str
    video: str
    start_s: float
    stop_s: float
    verb: int
    noun: int


@dataclass(frozen=True)
class ActionClasses:
    """What the answers are numbered by: what the training annotations know, in rising order."""

    verbs: tuple[int, ...]
    nouns: tuple[int, ...]
    actions: tuple[tuple[int, int], ...]

    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Return the names of the classes by question."""
        return {
            "verb": tuple(map(str, self.verbs)),
            "noun": tuple(map(str, self.nouns)),
            "action": tuple(f"{verb},{noun}" for verb, noun in self.actions),
        }


@dataclass(frozen=True)
class Moments:
    """When a clip ends, relative to the action.

    Attributes:
        protocol: What the anticipation time is counted back from.
        ahead_s: The anticipation time of evaluation [s].
        train_ahead_s: Range that training draws it from [s].
        train_point: Range of shares of the action that training counts back from its end, in the
            reference protocol.
    """

    protocol: Protocol = "standard"
    ahead_s: float = 1.0
    train_ahead_s: tuple[float, float] = (0.25, 1.75)
    train_point: tuple[float, float] = (0.0, 0.25)

    def draw(self, action: Action, rng: np.random.Generator | None) -> tuple[float, float]:
        """Return when the clip ends [s of the video], and how far ahead the question lies [s]."""
        ahead = self.ahead_s if rng is None else float(rng.uniform(*self.train_ahead_s))
        if self.protocol == "standard":
            return action.start_s - ahead, ahead
        point = 0.0 if rng is None else float(rng.uniform(*self.train_point))
        return action.stop_s - point * (action.stop_s - action.start_s) - ahead, ahead


class ActionSamples(Samples):
    """Actions that are asked about before they happen.

    Args:
        actions: The actions.
        classes: Numbers their verbs, nouns and pairs.
        root: Folder of the videos.
        layout: How they lie in it.
        moments: When clips end.
        clips: How clips are cut; `fps` is needed.
        side_px: Side of the squares [px].
        augmentation: What training does to clips; None: they come as in evaluation.
    """

    def __init__(
        self,
        actions: Sequence[Action],
        classes: ActionClasses,
        root: Path,
        layout: Layout,
        moments: Moments,
        clips: ClipConfig,
        side_px: int,
        augmentation: AugmentationConfig | None = None,
    ) -> None:
        self._actions = actions
        self._numbers = _numbers(classes)
        self._paths = [str(_video_path(root, layout, action)) for action in actions]
        self._files = VideoFiles(self._paths)
        self._moments = moments
        self._clips = clips
        self._side_px = side_px
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._actions)

    def name(self, index: int) -> str:
        """Return the action's id and its file."""
        return f"{self._actions[index].name} in {self._paths[index]}"

    def labels(self, index: int) -> tuple[int, ...]:
        """Return the classes of verb, noun and action."""
        action = self._actions[index]
        verbs, nouns, pairs = self._numbers
        return verbs[action.verb], nouns[action.noun], pairs[action.verb, action.noun]

    def read(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Cut the clip before an action."""
        stream = self._open(index)
        try:
            end_s, ahead_s = self._moments.draw(self._actions[index], rng)
            rows = rows_until(end_s, len(stream), _rate(stream), self._clips)
            frames = torch.from_numpy(stream.read(rows)).unsqueeze(0)
        finally:
            stream.close()
        if rng is None or self._augmentation is None:
            return Sample(evaluation_views(frames, self._clips, self._side_px), ahead_s)
        return Sample(training_view(frames, self._augmentation, self._side_px, rng), ahead_s)

    def frames(self, index: int, count: int) -> Tensor:
        """Return the last frames of the clip, spread over it."""
        stream = self._open(index)
        try:
            end_s, _ = self._moments.draw(self._actions[index], None)
            rows = rows_until(end_s, len(stream), _rate(stream), self._clips)
            chosen = np.linspace(0, len(rows) - 1, count).round().astype(np.int64)
            return torch.from_numpy(stream.read(rows[chosen]))
        finally:
            stream.close()

    def fingerprint(self) -> str:
        """Hash the actions, the moments, the clips and the augmentation."""
        parts = [*map(repr, self._actions), repr(self._moments), self._clips.model_dump_json()]
        parts += [str(self._side_px), repr(self._augmentation), *self._paths]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _open(self, index: int) -> CameraStream:
        return self._files.open(index, np.random.default_rng(0))  # nothing to choose


def rows_until(end_s: float, length: int, video_fps: float, clips: ClipConfig) -> NDArray[np.int64]:
    """Return the rows `[T]` of a clip whose last frame is shown no later than at `end_s` [s].

    What lies before the start of the video is its first frame.
    """
    step = video_fps / (clips.fps or video_fps)
    last = int(np.floor(end_s * video_fps))
    rows = np.floor(last - np.arange(clips.frames - 1, -1, -1) * step)
    chosen: NDArray[np.int64] = np.clip(rows, 0, length - 1).astype(np.int64)
    return chosen


def read_actions(split: str, path: str | None) -> list[Action]:
    """Read annotations as EPIC-KITCHENS-100 publishes them (`EPIC_100_train.csv`).

    Raises:
        DataError: There is no file, or a line is no annotation; names it.
    """
    if path is None or not Path(path).is_file():
        raise DataError(f"data.{split}: there are no annotations {path}; pass --data {split}=FILE")
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"data.{split}: {path} has no column {', '.join(missing)}")
        actions = []
        for row in reader:
            try:
                actions.append(_action(row, reader.line_num))
            except (ValueError, TypeError) as error:  # noqa: PERF203  the line has to be named
                place = f"{path}, line {reader.line_num}"
                raise DataError(f"data.{split}: {place} is no annotation: {error}") from error
    return actions


def known_classes(actions: Sequence[Action]) -> ActionClasses:
    """Number what training annotations know."""
    return ActionClasses(
        tuple(sorted({action.verb for action in actions})),
        tuple(sorted({action.noun for action in actions})),
        tuple(sorted({(action.verb, action.noun) for action in actions})),
    )


def answerable(actions: Sequence[Action], classes: ActionClasses) -> list[Action]:
    """Return the actions that training has examples of; the published evaluation drops others."""
    known = set(classes.actions)
    return [action for action in actions if (action.verb, action.noun) in known]


def _action(row: Mapping[str, str], line: int) -> Action:
    start, stop = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
    if not 0 <= start <= stop:
        raise ValueError(f"it lasts from {start} s to {stop} s")
    return Action(
        row.get("narration_id") or f"line {line}",
        row["participant_id"],
        row["video_id"],
        start,
        stop,
        int(row["verb_class"]),
        int(row["noun_class"]),
    )


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _numbers(
    classes: ActionClasses,
) -> tuple[dict[int, int], dict[int, int], dict[tuple[int, int], int]]:
    return (
        {verb: number for number, verb in enumerate(classes.verbs)},
        {noun: number for number, noun in enumerate(classes.nouns)},
        {pair: number for number, pair in enumerate(classes.actions)},
    )


def _video_path(root: Path, layout: Layout, action: Action) -> Path:
    folder = root / action.participant
    return (folder / "videos" if layout == "nested" else folder) / f"{action.video}.MP4"


def _rate(stream: CameraStream) -> float:
    if stream.nominal_fps is None:
        raise DataError("the video has no frame rate")
    return stream.nominal_fps
