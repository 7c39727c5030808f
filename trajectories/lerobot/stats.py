"""Statistics that LeRobot data sets carry, per episode and joined over episodes.

Readers normalise with them: minimum, maximum, mean, standard deviation, count and five quantiles
of every number, and of every colour channel in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import CameraStream
from trajectories.episode import Array

Stats = dict[str, NDArray[np.float64]]

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

_IMAGES = 16  # frames that are looked at per episode
_PIXEL_STRIDE = 4


def stats_of_rows(values: Array) -> Stats:
    """Statistics of a signal `[T]` or `[T, k]`; each `[1]` or `[k]`, the count `[1]`."""
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return {**_describe(rows), "count": np.array([float(len(rows))])}


def stats_of_camera(stream: CameraStream) -> Stats:
    """Statistics of a camera's channels, each `[3, 1, 1]`, from some of its frames."""
    chosen = np.unique(np.linspace(0, len(stream) - 1, _IMAGES).astype(np.int64))
    frames = stream.read(chosen)[:, ::_PIXEL_STRIDE, ::_PIXEL_STRIDE]
    described = _describe(frames.reshape(-1, 3) / 255.0)
    shaped = {name: value.reshape(3, 1, 1) for name, value in described.items()}
    return {**shaped, "count": np.array([float(len(chosen))])}


def joined_stats(episodes: Sequence[Mapping[str, NDArray[np.float64]]]) -> Stats:
    """Statistics over episodes; quantiles are the weighted mean of the episodes', as LeRobot does it."""
    counts = np.array([float(stats["count"][0]) for stats in episodes])
    shape = (-1, *[1] * episodes[0]["mean"].ndim)
    weights = (counts / counts.sum()).reshape(shape)

    def stacked(name: str) -> NDArray[np.float64]:
        return np.stack([stats[name] for stats in episodes])

    mean = (weights * stacked("mean")).sum(axis=0)
    variance = (weights * (stacked("std") ** 2 + (stacked("mean") - mean) ** 2)).sum(axis=0)
    return {
        "min": stacked("min").min(axis=0),
        "max": stacked("max").max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([counts.sum()]),
        **{name: (weights * stacked(name)).sum(axis=0) for name in QUANTILES},
    }


def _describe(rows: NDArray[np.float64]) -> Stats:
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }
