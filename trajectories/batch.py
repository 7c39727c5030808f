"""Batch runs over data sets: bad episodes are counted and named, never replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from trajectories.dataset import Dataset
from trajectories.episode import Episode
from trajectories.errors import (
    BadEpisodeError,
    CorruptDataError,
    Defect,
    LengthMismatchError,
    MissingCameraError,
    TooManyBadEpisodesError,
    TrajectoryError,
)

_LISTED = 20


@dataclass
class Tally:
    """What a batch run met.

    Attributes:
        good: How many episodes were used.
        bad: Those that were skipped, each with why.
    """

    good: int = 0
    bad: list[BadEpisodeError] = field(default_factory=list)

    def skip(self, error: BadEpisodeError, max_bad: int | None = None) -> None:
        """Count a bad episode.

        Raises:
            TooManyBadEpisodesError: That makes more than `max_bad`; None bears any number.
        """
        self.bad.append(error)
        if max_bad is not None and len(self.bad) > max_bad:
            listed = "\n  ".join(map(str, self.bad[:_LISTED]))
            raise TooManyBadEpisodesError(
                f"{len(self.bad)} bad episodes, {max_bad} are allowed (--max-bad):\n  {listed}"
            ) from error


def usable(
    dataset: Dataset,
    tally: Tally,
    *,
    indices: Iterable[int] | None = None,
    views: tuple[str, ...] = (),
    max_bad: int | None = None,
) -> Iterator[Episode]:
    """Open episodes one after the other; bad ones are counted in `tally`.

    Args:
        dataset: Where from.
        tally: Filled on the way.
        indices: Which episodes; all when None.
        views: Cameras that an episode must have, with as many frames as rows.
        max_bad: How many bad episodes to bear; None for any number.

    Yields:
        Episodes, each closed when the loop goes on.

    Raises:
        TooManyBadEpisodesError: There were more.
    """
    for index in range(len(dataset)) if indices is None else indices:
        try:
            episode = dataset.open(index)
            require_views(episode, views)
        except BadEpisodeError as error:
            tally.skip(error, max_bad)
            continue
        with episode:
            yield episode
        tally.good += 1


def require_views(episode: Episode, views: Iterable[str]) -> None:
    """Open the named cameras and hold them against the rows.

    Raises:
        BadEpisodeError: One is missing, damaged, or has another number of frames.
    """
    found = [defect for view in views if (defect := _view_defect(episode, view)) is not None]
    if found:
        episode.close()
        raise BadEpisodeError(episode.name, found)


def _view_defect(episode: Episode, view: str) -> Defect | None:
    try:
        _ = episode.camera(view).frame_size
    except (TrajectoryError, OSError) as error:
        return camera_defect(view, error)
    return None


def camera_defect(view: str, error: Exception) -> Defect:
    """What an error says about a camera."""
    for kind, name in _KINDS.items():
        if isinstance(error, kind):
            return Defect(name, f"{view}: {error}")
    return Defect("unreadable video", f"{view}: {error}")


_KINDS: dict[type[Exception], str] = {
    MissingCameraError: "missing camera",
    LengthMismatchError: "length mismatch",
    CorruptDataError: "corrupt video",
}
