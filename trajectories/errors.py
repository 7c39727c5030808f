"""Errors of the package; every message names the file or value and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TrajectoryError(Exception):
    """Base of everything `trajectories` raises on purpose."""


class CorruptDataError(TrajectoryError):
    """A data set on disk is incomplete, inconsistent or not one of ours."""


class LengthMismatchError(CorruptDataError):
    """A video has not as many frames as its episode has rows.

    Args:
        message: What to say.
        frames: How many frames it has.
    """

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class InvalidEpisodeError(TrajectoryError):
    """An episode that was handed over has the wrong shape, type or values."""


class UnknownFormatError(TrajectoryError):
    """Nothing at a path is a recording that can be read."""


class MissingCameraError(TrajectoryError):
    """An episode has no such camera, or no pose of it."""


class ClockError(TrajectoryError):
    """An episode cannot be sampled at the period that was asked for."""


class TooManyBadEpisodesError(TrajectoryError):
    """A batch run met more bad episodes than it was told to bear."""


@dataclass(frozen=True)
class Defect:
    """Something that is wrong with one episode.

    Attributes:
        kind: One word or two for counting, for example `missing metadata`.
        detail: The offending file or value, and what was expected.
        is_fatal: The episode cannot be used; otherwise it deserves a look.
    """

    kind: str
    detail: str
    is_fatal: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class BadEpisodeError(TrajectoryError):
    """One episode cannot be used.

    Args:
        name: The episode, as its data set calls it.
        defects: What is wrong; at least one.
    """

    def __init__(self, name: str, defects: Sequence[Defect]) -> None:
        self.name = name
        self.defects = tuple(defects)
        super().__init__(f"{name}: " + "; ".join(map(str, self.defects)))
