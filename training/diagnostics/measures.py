"""Shares of pairs that are ranked rightly, and their intervals: whole episodes are resampled.

Steps of one episode are not independent; see `trajectories.replay.statistics`, which does the same for means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.statistics import LEVEL, RESAMPLES

Array = NDArray[np.float64]

_SEED = 20261


@dataclass(frozen=True)
class Ranked:
    """An area under the ROC curve and its 95 % interval.

    Attributes:
        value: Share of (anomaly, normal) pairs in which the anomaly scores higher; ties count half.
        low: Lower end; None with a single episode.
        high: Upper end, or None.
        anomalies: How many there are.
        normals: How many there are.
    """

    value: float
    low: float | None
    high: float | None
    anomalies: int
    normals: int


def ranked(
    anomalies: Array,
    anomaly_episodes: Sequence[str],
    normals: Array,
    normal_episodes: Sequence[str],
) -> Ranked:
    """Return how well scores tell anomalies from normal steps.

    Args:
        anomalies: Scores `[A]`.
        anomaly_episodes: The episode of each.
        normals: Scores `[N]`.
        normal_episodes: The episode of each.
    """
    wins, pairs = _wins(anomalies, anomaly_episodes, normals, normal_episodes)
    value = float(wins.sum() / pairs.sum()) if pairs.sum() else float("nan")
    low, high = _interval(wins[None], pairs)[0]
    return Ranked(value, low, high, len(anomalies), len(normals))


def ranked_difference(
    scores: Sequence[tuple[Array, Array]],
    anomaly_episodes: Sequence[str],
    normal_episodes: Sequence[str],
) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the first area minus the second, on the same steps.

    Args:
        scores: For both detectors the scores of anomalies `[A]` and of normal steps `[N]`.
        anomaly_episodes: The episode of each anomaly.
        normal_episodes: The episode of each normal step.
    """
    (first, pairs), (second, _) = (
        _wins(anomalies, anomaly_episodes, normals, normal_episodes)
        for anomalies, normals in scores
    )
    return _interval((first - second)[None], pairs)[0]


def spearman(first: Array, second: Array) -> float:
    """Return the rank correlation of two series; NaN where one of them is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = float(np.prod([np.sqrt((values**2).sum()) for values in centred]))
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    """Return ranks from 0; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray((first + (counts - 1) / 2)[place], np.float64)


def _wins(
    anomalies: Array,
    anomaly_episodes: Sequence[str],
    normals: Array,
    normal_episodes: Sequence[str],
) -> tuple[Array, Array]:
    """Return pairs won and pairs in all, `[E, E]` by the episodes of anomaly and normal step."""
    names = sorted({*anomaly_episodes, *normal_episodes})
    number = {name: place for place, name in enumerate(names)}
    rows = np.eye(len(names))[[number[name] for name in anomaly_episodes]]
    columns = np.eye(len(names))[[number[name] for name in normal_episodes]]
    difference = anomalies[:, None] - normals[None]
    won = (difference > 0) + 0.5 * (difference == 0)
    return rows.T @ won @ columns, np.outer(rows.sum(axis=0), columns.sum(axis=0))


def _interval(wins: Array, pairs: Array) -> list[tuple[float | None, float | None]]:
    """Resample episodes; return the interval of every `wins` `[K, E, E]` over `pairs` `[E, E]`."""
    episodes = len(pairs)
    if episodes < 2:
        return [(None, None)] * len(wins)
    draws = np.random.default_rng(_SEED).integers(0, episodes, (RESAMPLES, episodes))
    weights = np.stack([np.bincount(draw, minlength=episodes) for draw in draws]).astype(float)
    total = np.einsum("ra,ab,rb->r", weights, pairs, weights, optimize=True)
    tail = 100 * (1 - LEVEL) / 2
    found: list[tuple[float | None, float | None]] = []
    for each in wins:
        won = np.einsum("ra,ab,rb->r", weights, each, weights, optimize=True)
        shares = won[total > 0] / total[total > 0]
        low, high = np.percentile(shares, [tail, 100 - tail])
        found.append((float(low), float(high)))
    return found
