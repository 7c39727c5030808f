"""Which windows are drawn from episodes, how often, and which episodes are learned from at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.episodes import (
    Episodes,
    PixelWindows,
    Place,
    UnreadableWindowError,
    Windows,
    names_of,
)
from training.errors import ConfigurationError, DataError
from trajectories.poses import POSITION

Draw = Literal["windows", "episodes"]
"""`windows`: all windows of all strides alike, so that long strides, of which an episode holds fewer, come less often.
`episodes`: an episode first, then one of its windows, as published."""

_RETRIES = 10
_PERIOD_TOLERANCE = 0.1  # the published "4 fps" is 6 % off the period of its recordings


@dataclass(frozen=True)
class WindowSettings:
    """Which windows to draw.

    Attributes:
        frames: Frames in a window, T.
        strides: Least and largest distance of neighbouring frames [rows].
        views: Share of every camera; episodes without any of them are left out.
        max_step_m: Windows with a larger first translation on an axis are left out, because the
            planner may not choose it [m]; none are by default.
        draw: See `Draw`.
    """

    frames: int
    strides: tuple[int, int] = (1, 1)
    views: Mapping[str, float] = field(default_factory=dict)
    max_step_m: float | None = None
    draw: Draw = "windows"


class WindowSampler:
    """Draw windows from episodes.

    Args:
        data: The encoded episodes.
        episodes: Names of those to draw from.
        settings: Which windows.

    Raises:
        DataError: No window fits; says why.
    """

    def __init__(self, data: Episodes, episodes: Sequence[str], settings: WindowSettings) -> None:
        self._data = data
        self._settings = settings
        self._names = [name for name in episodes if self._weights(name)]
        if not self._names:
            raise DataError(_describe_no_view(data, episodes, settings.views))
        found = [_fitting(data.states(name), settings) for name in self._names]
        self._ends = np.cumsum([len(rows) for rows in found])
        self._table = np.concatenate(found)  # [windows, (first row, stride)], episode by episode
        if not len(self._table):
            raise DataError(
                f"none of {len(self._names)} episodes holds {settings.frames} frames at strides "
                f"{list(settings.strides)} with a first step within {settings.max_step_m} m"
            )

    def __len__(self) -> int:
        return len(self._table)

    def sample(self, count: int, generator: torch.Generator) -> Windows | PixelWindows:
        """Draw and read `count` windows.

        One whose frames cannot be read is replaced by another draw and reported in `skipped`.

        Raises:
            DataError: Too many in a row could not be read; names them.
        """
        places = self.draw(count, generator)
        skipped: list[str] = []
        while True:
            try:
                return replace(self._data.read(places), skipped=tuple(skipped))
            except UnreadableWindowError as error:  # noqa: PERF203  the loop is there for it
                skipped.append(f"{names_of([places[error.index]])[0]}: {error}")
                if len(skipped) > _RETRIES:
                    raise DataError(
                        f"{len(skipped)} windows of one batch cannot be read:\n  "
                        + "\n  ".join(skipped)
                    ) from error
                places[error.index] = self.draw(1, generator)[0]

    def draw(self, count: int, generator: torch.Generator) -> list[Place]:
        """Draw `count` places, with replacement."""
        if self._settings.draw == "windows":
            chosen = torch.randint(0, len(self._table), (count,), generator=generator).numpy()
        else:
            chosen = self._draw_by_episode(count, generator)
        owners = np.searchsorted(self._ends, chosen, side="right")
        return [self._place(int(i), int(e), generator) for i, e in zip(chosen, owners, strict=True)]

    def _draw_by_episode(self, count: int, generator: torch.Generator) -> NDArray[np.int64]:
        starts = np.concatenate([[0], self._ends[:-1]])
        usable = np.flatnonzero(self._ends > starts)
        picked = usable[torch.randint(0, len(usable), (count,), generator=generator).numpy()]
        share = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        sizes = self._ends[picked] - starts[picked]
        place: NDArray[np.int64] = starts[picked] + (share * sizes).astype(np.int64)
        return place

    def _place(self, index: int, owner: int, generator: torch.Generator) -> Place:
        name = self._names[owner]
        weights = self._weights(name)
        chosen = torch.multinomial(
            torch.tensor(list(weights.values()), dtype=torch.float64), 1, generator=generator
        )
        first, stride = (int(value) for value in self._table[index])
        rows = first + stride * np.arange(self._settings.frames, dtype=np.int64)
        return Place(name, list(weights)[int(chosen)], rows)

    def _weights(self, episode: str) -> dict[str, float]:
        """Return the shares of those views that an episode has."""
        wanted = self._settings.views
        present = self._data.views(episode)
        if not wanted:
            return dict.fromkeys(present, 1.0)
        return {view: wanted[view] for view in present if wanted.get(view, 0.0) > 0}


def _fitting(states: NDArray[np.float64], settings: WindowSettings) -> NDArray[np.int32]:
    """List (first row, stride) of all windows that an episode holds, `[windows, 2]`."""
    rows = []
    for stride in range(settings.strides[0], settings.strides[1] + 1):
        first = np.arange(max(0, len(states) - (settings.frames - 1) * stride), dtype=np.int32)
        if settings.max_step_m is not None:
            step = np.abs(states[first + stride, POSITION] - states[first, POSITION])
            first = first[step.max(axis=-1) <= settings.max_step_m]
        rows.append(np.stack([first, np.full_like(first, stride)], axis=1))
    return np.concatenate(rows)


def _describe_no_view(data: Episodes, episodes: Sequence[str], wanted: Mapping[str, float]) -> str:
    present = sorted({view for name in episodes for view in data.views(name)})
    if not episodes:
        return "there is no episode to draw from"
    return (
        f"none of {len(episodes)} episodes has a camera named {', '.join(wanted)}; they have "
        f"{', '.join(present) or 'none'}"
    )


def split_episodes(episodes: Sequence[str], held_out: float) -> tuple[list[str], list[str]]:
    """Divide episodes into those to learn from and those to judge by.

    The hash of its name decides where an episode goes, so that it stays there when the data grow. At
    least one episode is held out where any share is.

    Args:
        episodes: Their names.
        held_out: Share to hold out, 0 to less than 1.

    Raises:
        DataError: There are too few to divide.
    """
    if held_out <= 0.0:
        return list(episodes), []
    order = sorted(episodes, key=_place_in_split)
    held = sum(_place_in_split(name) < held_out for name in order)
    held = max(1, held)
    if held >= len(order):
        raise DataError(f"{len(order)} episodes are too few to hold {held_out:.0%} of them out")
    chosen = set(order[:held])
    return [n for n in episodes if n not in chosen], [n for n in episodes if n in chosen]


def _place_in_split(episode: str) -> float:
    return int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big") / 2**64


def check_strides(strides: tuple[int, int], row_period_s: float, control_period_s: float) -> None:
    """Refuse strides that never span the control period of the model.

    Raises:
        ConfigurationError: Says which strides would.
    """
    low, high = (stride * row_period_s for stride in strides)
    slack = _PERIOD_TOLERANCE * control_period_s
    if not low - slack <= control_period_s <= high + slack:
        raise ConfigurationError(
            f"strides of {strides[0]} to {strides[1]} rows span {low:.3g} to {high:.3g} s of these "
            f"recordings, control_period_s is {control_period_s:g}; use a stride of "
            f"{max(1, round(control_period_s / row_period_s))} rows, or the period that is meant"
        )
