"""Time: which rows of an episode are one control period apart.

A model plans in control periods; a recording has rows at its own rate. Real timestamps decide
wherever there are some. DROID's videos are written to play at 60 frames/s while the robot's rows
come at 15 Hz, so a clock that trusts the video calls one second of real time a quarter of one; the
published V-JEPA 2-AC weights were trained by that clock. `legacy_rows` reproduces it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trajectories.episode import Episode
from trajectories.errors import ClockError

Rows = NDArray[np.int64]

_SLACK = 1e-9


def rows_at_period(
    times_s: NDArray[np.float64], period_s: float, first_row: int = 0, count: int | None = None
) -> Rows:
    """Choose the rows nearest to `first, first + period, first + 2 periods, ...`.

    Args:
        times_s: Ascending timestamps `[T]` [s].
        period_s: The control period [s].
        first_row: Where to begin.
        count: How many rows; as many as there are until the end when None.

    Returns:
        Ascending row indices.

    Raises:
        ClockError: The period is not positive, two instants fall on one row (the rows are too
            far apart, or there is a gap), or the episode ends before `count` rows.
    """
    if not (math.isfinite(period_s) and period_s > 0):
        raise ClockError(f"a control period of {period_s} s; it has to be positive")
    start_s = times_s[first_row]
    available = int((times_s[-1] - start_s) / period_s + _SLACK) + 1
    if count is not None and count > available:
        raise ClockError(
            f"{count} rows of {period_s} s from row {first_row} need "
            f"{(count - 1) * period_s:.2f} s; the episode goes on for {times_s[-1] - start_s:.2f} s"
        )
    instants = start_s + period_s * np.arange(available if count is None else count)
    rows = _nearest(times_s, instants)
    if (np.diff(rows) <= 0).any():
        place = int(np.argmax(np.diff(rows) <= 0))
        raise ClockError(
            f"no row of its own at {instants[place + 1] - times_s[0]:.2f} s (nearest: row "
            f"{rows[place + 1]}); the rows are too sparse for a period of {period_s} s"
        )
    return rows


def legacy_rows(row_count: int, video_fps: float, fps: float = 4.0, first_row: int = 0) -> Rows:
    """Choose rows as the published training code does: every `ceil(video_fps / fps)`-th.

    Args:
        row_count: Rows of the episode.
        video_fps: The rate at which the *video file* says it plays; 60 for released DROID.
        fps: The rate that was asked for; 4 for the published weights. With 60 it makes a stride
            of 15 rows, which is one second of DROID's real time.
        first_row: Where to begin.
    """
    if not (video_fps > 0 and fps > 0):
        raise ClockError(f"video rate {video_fps} and rate {fps} frames/s have to be positive")
    return np.arange(first_row, row_count, math.ceil(video_fps / fps), dtype=np.int64)


def resample(episode: Episode, period_s: float) -> Episode:
    """Thin an episode out to one row per control period, by its real timestamps.

    Raises:
        ClockError: See `rows_at_period`.
    """
    try:
        return episode.select(rows_at_period(episode.times_s, period_s))
    except ClockError as error:
        raise ClockError(f"{episode.name}: {error}") from error


def resample_legacy(
    episode: Episode, view: str, fps: float = 4.0, video_fps: float | None = None
) -> Episode:
    """Thin an episode out by the clock of the published training code.

    Args:
        episode: All its rows.
        view: The camera whose file states the rate.
        fps: See `legacy_rows`.
        video_fps: To be used instead of the file's own rate.

    Raises:
        ClockError: The camera's file states no rate and none is given.
    """
    rate = episode.camera(view).nominal_fps if video_fps is None else video_fps
    if rate is None:
        raise ClockError(f"{episode.name}: camera {view!r} states no frame rate; give video_fps")
    return episode.select(legacy_rows(len(episode), rate, fps))


def _nearest(times_s: NDArray[np.float64], instants: NDArray[np.float64]) -> Rows:
    after = np.clip(np.searchsorted(times_s, instants - _SLACK), 1, max(1, len(times_s) - 1))
    if len(times_s) == 1:
        return np.zeros(len(instants), np.int64)
    before = after - 1
    is_after = times_s[after] - instants < instants - times_s[before] - _SLACK
    return np.where(is_after, after, before).astype(np.int64)
