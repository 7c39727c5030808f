"""From a recipe to what is asked: samples of both splits, and the classes they are told apart by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.config import EncoderConfig
from training.errors import ConfigurationError, DataError
from training.probes.anticipation import (
    ActionSamples,
    Moments,
    answerable,
    known_classes,
    read_actions,
)
from training.probes.config import ActionsConfig, ProbeConfig, VideosConfig
from training.probes.evaluation import Task
from training.probes.motion import MotionConfig, MotionVideos
from training.probes.samples import (
    Classes,
    FilesConfig,
    LabelledVideos,
    Samples,
    VideoSamples,
    open_files,
)
from training.probes.views import ClipConfig


@dataclass(frozen=True)
class OpenTask:
    """A task with its samples.

    Attributes:
        task: What is asked.
        train: Samples to learn from.
        validation: Samples to be judged by.
    """

    task: Task
    train: Samples
    validation: Samples


def open_task(recipe: ProbeConfig, encoder: EncoderConfig) -> OpenTask:
    """Find the samples of a recipe.

    Raises:
        ConfigurationError: Something is not named, or the encoder cannot take such clips.
        DataError: Samples are missing, or have labels that are no classes.
    """
    side_px = recipe.clips.side_px(encoder)
    if isinstance(recipe.data, ActionsConfig):
        return _open_actions(recipe.data, recipe.clips, side_px)
    return _open_videos(recipe.data, recipe.clips, side_px)


def check_classes(known: Mapping[str, tuple[str, ...]], task: Task, source: str) -> None:
    """Refuse probes that know other classes than the data have.

    Raises:
        ConfigurationError: Says which question differs, and how.
    """
    for question, names in task.classes.items():
        theirs = known.get(question)
        if theirs == names:
            continue
        if theirs is None:
            raise ConfigurationError(
                f"{source} answers {', '.join(known)}; the data ask for {question}"
            )
        extra = sorted(set(theirs) ^ set(names))[:5]
        what = f"they differ in {', '.join(extra)}" if extra else "their order differs"
        raise ConfigurationError(
            f"{source} knows {len(theirs)} classes of {question}, the data have {len(names)}: {what}. "
            "Name the probe's classes in data.classes, in its order"
        )


def _open_videos(data: VideosConfig, clips: ClipConfig, side_px: int) -> OpenTask:
    train = _open("train", data.train, data.classes)
    validation = _open("validation", data.validation, data.classes or train.classes)
    images = f"{clips.frames} frames x {clips.segments} segments x {clips.views} views"
    one_view = clips.model_copy(update={"views": 1})
    return OpenTask(
        Task({"label": train.classes}, f"classification, {images}"),
        VideoSamples(train, one_view, side_px, data.augmentation),
        VideoSamples(validation, clips, side_px),
    )


def _open(
    split: str, config: FilesConfig | MotionConfig, classes: Classes | None
) -> LabelledVideos:
    if isinstance(config, FilesConfig):
        return open_files(split, config, classes)
    videos = MotionVideos(config)
    if classes is not None and classes not in (len(videos.classes), videos.classes):
        raise ConfigurationError(
            f"data.{split}: the moving scenes have {len(videos.classes)} classes, the recipe and the "
            "other split have others; make `speeds` alike and leave data.classes out"
        )
    return videos


def _open_actions(data: ActionsConfig, clips: ClipConfig, side_px: int) -> OpenTask:
    if data.videos_path is None:
        raise ConfigurationError("data.videos_path is missing: the folder with P01, P02, ...")
    train = read_actions("train", data.train.path)
    classes = known_classes(train)
    everything = read_actions("validation", data.validation.path)
    validation = answerable(everything, classes)
    if not validation:
        raise DataError("data.validation: no action is one that training has examples of")
    moments = Moments(data.protocol, data.ahead_s, data.train_ahead_s, data.train_point)
    root = Path(data.videos_path)
    boundary = "begins" if data.protocol == "standard" else "ENDS (not the standard protocol)"
    protocol = (
        f"{data.protocol}: clips end {data.ahead_s:g} s before the action {boundary}; "
        f"{len(everything) - len(validation)} of {len(everything)} actions left out, which training "
        "does not know"
    )
    return OpenTask(
        Task(classes.names(), protocol, by_class=True),
        ActionSamples(
            train, classes, root, data.layout, moments, clips, side_px, data.augmentation
        ),
        ActionSamples(validation, classes, root, data.layout, moments, clips, side_px),
    )
