"""Episodes as post-training reads them: places in them, and what is there, as tokens or as frames.

Letters in shapes: B windows, T frames of a window, N tokens per frame, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.batches import Batch
from training.latent_cache import LatentCache
from training.latents import FrameEncoder
from training.recordings import Recordings
from trajectories.errors import TrajectoryError
from trajectories.poses import difference

_SEPARATOR = ", view "


class Place(NamedTuple):
    """Where a window is: encoded rows `[T]` of one view of one episode."""

    episode: str
    view: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Windows(Batch):
    """A batch of windows.

    Attributes:
        tokens: Layer-normed tokens `[B, T, N, D]`, float32 or bfloat16.
        states: Measured states `[B, T, 7]` [m, rad, closedness], float32.
        actions: What leads from each state to the next, `[B, T - 1, 7]`, float32.
        with_rollout: Whether a rollout shall be learned from them.
    """

    tokens: Tensor
    states: Tensor
    actions: Tensor
    with_rollout: bool = True


@dataclass(frozen=True)
class PixelWindows(Batch):
    """A batch of windows that is still to be encoded.

    Attributes:
        frames: uint8 RGB `[B, T, H, W, 3]`.
        states: As in `Windows`.
        actions: As in `Windows`.
        with_rollout: As in `Windows`.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    with_rollout: bool = True

    def encoded(self, encoder: FrameEncoder) -> Windows:
        """Encode all frames in one batch, each once, without gradients."""
        tokens = encoder.encode(self.frames.flatten(0, 1))
        tokens = tokens.view(*self.frames.shape[:2], *tokens.shape[1:])
        return Windows(
            tokens,
            self.states,
            self.actions,
            self.with_rollout,
            names=self.names,
            skipped=self.skipped,
        )


class Episodes(Protocol):
    """Episodes to draw windows from."""

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        ...

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        ...

    def views(self, episode: str) -> Sequence[str]:
        """Return the names of an episode's cameras."""
        ...

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the states at all rows, `[T, 7]`."""
        ...

    def read(self, places: Sequence[Place]) -> Windows | PixelWindows:
        """Read windows of the same length."""
        ...


class CachedEpisodes:
    """Episodes out of a cache of latents: nothing is encoded."""

    def __init__(self, cache: LatentCache) -> None:
        self._cache = cache
        views: dict[str, list[str]] = {}
        for episode, view in cache.contents:
            views.setdefault(episode, []).append(view)
        self._views = views
        self._episodes = sorted(views)

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return self._episodes

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        return self._cache.key.row_period_s

    def views(self, episode: str) -> Sequence[str]:
        """Return the names of an episode's cameras."""
        return self._views[episode]

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the states at all rows, `[T, 7]`."""
        return self._cache.states(episode, self._views[episode][0])

    def read(self, places: Sequence[Place]) -> Windows:
        """Read windows; their tokens are bfloat16."""
        tokens = torch.stack([self._cache.tokens(*place) for place in places])
        return Windows(tokens, *_motion(self, places), names=names_of(places))


class LiveEpisodes:
    """Episodes that are encoded whenever they are asked for: no disk, much computing."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return self._recordings.episodes

    @property
    def row_period_s(self) -> float:
        """Real time between two rows [s]."""
        return self._recordings.row_period_s

    def views(self, episode: str) -> Sequence[str]:
        """Return the names of an episode's cameras."""
        return self._recordings.views(episode)

    def states(self, episode: str) -> NDArray[np.float64]:
        """Return the states at all rows, `[T, 7]`."""
        return self._recordings.states(episode)

    def read(self, places: Sequence[Place]) -> PixelWindows:
        """Read windows of frames, to be encoded where the encoder is.

        Raises:
            UnreadableWindowError: The frames at one of the places cannot be read.
        """
        frames = np.stack([self._frames(i, place) for i, place in enumerate(places)])
        return PixelWindows(
            torch.from_numpy(frames), *_motion(self, places), names=names_of(places)
        )

    def _frames(self, index: int, place: Place) -> NDArray[np.uint8]:
        try:
            return self._recordings.frames(*place)
        except TrajectoryError as error:
            raise UnreadableWindowError(index, str(error)) from error


class UnreadableWindowError(Exception):
    """The frames of one place in a batch cannot be read.

    Attributes:
        index: Which place.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def _motion(data: Episodes, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
    """Return the states at places, `[B, T, 7]`, and the actions between them, `[B, T - 1, 7]`."""
    states = np.stack([data.states(place.episode)[place.rows] for place in places])
    actions = difference(states[:, :-1], states[:, 1:])
    return torch.from_numpy(states).float(), torch.from_numpy(actions).float()


def names_of(places: Sequence[Place]) -> tuple[str, ...]:
    """Return how messages call windows."""
    return tuple(f"{p.episode}{_SEPARATOR}{p.view}, row {p.rows[0]}" for p in places)


def episode_of(name: str) -> str:
    """Return the episode in the name of a window."""
    return name.partition(_SEPARATOR)[0]
