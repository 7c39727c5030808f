"""Means with honest intervals: steps of one episode are not independent, so whole episodes are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 4000
LEVEL = 0.95
SIGNIFICANT = 0.05
FEW_EPISODES = 10  # with fewer, the percentile interval is known to be too narrow
_EXACT_EPISODES = 14  # 2^14 sign patterns are enumerated, more are drawn
_SEED = 20251


@dataclass(frozen=True)
class Estimate:
    """A mean over steps and its 95 % bootstrap interval, clustered by episode.

    Attributes:
        mean: Mean over all steps that have a value; NaN when none has.
        low: Lower end; None where one episode or none gives no idea of the spread between episodes.
        high: Upper end, or None.
        steps: Steps with a value.
        episodes: Episodes with a value.
    """

    mean: float
    low: float | None
    high: float | None
    steps: int
    episodes: int


@dataclass(frozen=True)
class PairedEstimate:
    """The mean of B minus A over the steps that both have.

    Attributes:
        difference: Mean difference with its interval, clustered by episode.
        p_value: Two-sided sign-flip test over episodes: how often chance alone gives a difference this large.
        smallest_p: The least p-value that so few episodes can give.
        share_b_lower: Share of steps where B is lower, ties counting half.
    """

    difference: Estimate
    p_value: float
    smallest_p: float
    share_b_lower: float

    @property
    def is_sure(self) -> bool:
        """Whether both the interval and the test say that there is a difference."""
        low, high = self.difference.low, self.difference.high
        has_sign = low is not None and high is not None and (high < 0 or low > 0)
        return has_sign and self.p_value <= SIGNIFICANT


def estimate(values: Array, episodes: Sequence[str], resamples: int = RESAMPLES) -> Estimate:
    """Estimate a mean from `values` `[S]` and the episode of each; values that are NaN are left out.

    Episodes are drawn with replacement, all steps of a drawn episode count, and the 2.5 and 97.5 percentiles of the
    means are the interval (cluster bootstrap, Davison and Hinkley 1997, section 3.8).
    """
    sums, counts = _per_episode(values, episodes)
    if len(sums) == 0:
        return Estimate(float("nan"), None, None, 0, 0)
    mean, steps = float(sums.sum() / counts.sum()), int(counts.sum())
    if len(sums) == 1:
        return Estimate(mean, None, None, steps, 1)
    draws = np.random.default_rng(_SEED).integers(0, len(sums), (resamples, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(mean, float(low), float(high), steps, len(sums))


def compare(first: Array, second: Array, episodes: Sequence[str]) -> PairedEstimate:
    """Compare `second` with `first`, both `[S]` over the same steps; a step that lacks either is left out."""
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    sums, _ = _per_episode(differences, episodes)
    known = differences[~np.isnan(differences)]
    return PairedEstimate(
        difference=estimate(differences, episodes),
        p_value=_sign_flip(sums),
        smallest_p=min(1.0, 2.0 ** (1 - len(sums))),
        share_b_lower=float(np.mean(known < 0) + 0.5 * np.mean(known == 0))
        if len(known)
        else float("nan"),
    )


def _per_episode(values: Array, episodes: Sequence[str]) -> tuple[Array, Array]:
    """Return sum and number of the values of every episode that has any."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(episodes):
        raise ValueError(f"{len(values)} values for {len(episodes)} episode names; give one each")
    _, index = np.unique(np.asarray(episodes, dtype=np.str_), return_inverse=True)
    is_known = ~np.isnan(values)
    counts = np.bincount(index[is_known], minlength=0).astype(np.float64)
    sums = np.bincount(index[is_known], weights=values[is_known], minlength=0).astype(np.float64)
    return sums[counts > 0], counts[counts > 0]


def _sign_flip(sums: Array) -> float:
    """Return how often random signs of the episodes' sums give a total at least as large as the one seen."""
    count = len(sums)
    if count == 0:
        return float("nan")
    if count <= _EXACT_EPISODES:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        signs = 1.0 - 2.0 * bits
    else:
        signs = np.random.default_rng(_SEED).choice([-1.0, 1.0], (RESAMPLES, count))
        signs[0] = 1.0  # the order seen is one of the possible ones, so p is never zero
    seen = abs(float(sums.sum()))
    tolerance = 1e-12 * float(np.abs(sums).sum())
    return float(np.mean(np.abs(signs @ sums) >= seen - tolerance))
