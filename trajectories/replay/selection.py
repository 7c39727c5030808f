"""Which episodes and which of their steps a replay asks about. Bad episodes are counted and named, never replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trajectories.batch import Tally, require_views
from trajectories.clock import resample, resample_legacy
from trajectories.dataset import Dataset, open_dataset
from trajectories.episode import Episode
from trajectories.errors import BadEpisodeError, Defect, TrajectoryError
from trajectories.replay.questions import Span, spans
from trajectories.replay.results import Settings

REAL_CLOCK = "real"
LEGACY_CLOCK = "legacy_video_fps"
CLOCKS = (REAL_CLOCK, LEGACY_CLOCK)
ANY_VIEW = "auto"
_USUAL_VIEW = "left"


@dataclass(frozen=True)
class Selected:
    """An episode at the planner's control period, the camera to look through, and the steps to ask about."""

    episode: Episode
    view: str
    asked: tuple[Span, ...]


@dataclass(frozen=True)
class Selection:
    """Episodes under some paths.

    Attributes:
        datasets: What lies at the paths, in order.
        settings: Clock, view and steps.
        limit: At most so many episodes; None for all.
    """

    datasets: tuple[Dataset, ...]
    settings: Settings
    limit: int | None = None

    @classmethod
    def of(cls, paths: Sequence[str], settings: Settings, limit: int | None = None) -> Selection:
        """Look at what lies at the paths; episodes are opened later, one at a time.

        Raises:
            TrajectoryError: Nothing that can be read lies there.
        """
        return cls(tuple(open_dataset(path) for path in paths), settings, limit)

    def read(self, period_s: float, horizon: int, tally: Tally) -> Iterator[Selected]:
        """Open the episodes one after the other.

        Args:
            period_s: The model's control period [s].
            horizon: Actions per plan.
            tally: Counts good and bad ones; the caller adds what turns out bad later.
        """
        for dataset, index, draws in self._wanted():
            try:
                selected = self._open(dataset, index, draws, period_s, horizon)
            except BadEpisodeError as error:
                tally.skip(error)
                continue
            with selected.episode:
                yield selected

    def count(self) -> int:
        """Return how many episodes will be opened, good and bad."""
        return sum(1 for _ in self._wanted())

    def _wanted(self) -> Iterator[tuple[Dataset, int, int | None]]:
        """Yield the episodes, and how many steps to draw from each (None: all)."""
        every = [(dataset, index) for dataset in self.datasets for index in range(len(dataset))]
        every = every[: self.limit]
        draws = self.settings.draws
        if draws is None or not every:
            yield from ((dataset, index, None) for dataset, index in every)
            return
        places = np.random.default_rng(self.settings.seed).integers(0, len(every), draws)
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            yield (*every[place], int(count))

    def _open(
        self, dataset: Dataset, index: int, draws: int | None, period_s: float, horizon: int
    ) -> Selected:
        episode = dataset.open(index)
        name = episode.name
        if len(self.datasets) > 1:
            name = f"{Path(dataset.root.path).name}/{name}"
        try:
            view = _view(episode, self.settings.view)
            require_views(episode, [view])
            if self.settings.clock == LEGACY_CLOCK:
                episode = resample_legacy(episode, view, fps=4.0)
            else:
                episode = resample(episode, period_s)
            asked = spans(len(episode), horizon, self.settings.goal_steps, self.settings.every)
        except BadEpisodeError as error:
            raise BadEpisodeError(name, error.defects) from error
        except TrajectoryError as error:
            raise BadEpisodeError(name, [Defect("clock", str(error))]) from error
        if not asked:
            detail = (
                f"{episode.duration_s:.2f} s hold no motion of one control period ({period_s:g} s)"
            )
            raise BadEpisodeError(name, [Defect("too short", detail)])
        return Selected(replace(episode, name=name), view, self._drawn(asked, draws, index))

    def _drawn(self, asked: Sequence[Span], draws: int | None, index: int) -> tuple[Span, ...]:
        """Draw steps whose horizon lies inside the episode, no step twice; all steps where none are to be drawn."""
        if draws is None:
            return tuple(asked)
        full = [span for span in asked if not span.is_tail] or list(asked)
        random = np.random.default_rng((self.settings.seed, index))
        places = random.choice(len(full), size=min(draws, len(full)), replace=False)
        return tuple(full[place] for place in sorted(places))


def _view(episode: Episode, wanted: str) -> str:
    """Return the camera to look through: the wanted one, else the left one, else the first."""
    if wanted != ANY_VIEW:
        return wanted
    if _USUAL_VIEW in episode.cameras or not episode.cameras:
        return _USUAL_VIEW
    return next(iter(episode.cameras))
