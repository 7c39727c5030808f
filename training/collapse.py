"""Early signs that an encoder forgets to tell things apart.

A masked predictor can lower its loss by making all tokens alike. Three numbers of the averaged
encoder's raw tokens show it long before the loss does: their spread, how many directions they use,
and how much they change over time.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_TOKENS = 1024  # what the rank is estimated from
_WARN_BELOW = 0.25  # of the largest value that was seen
_FEWEST_DIRECTIONS = 2.0
_ROWS = 3


def token_std(tokens: Tensor) -> Tensor:
    """Return the standard deviation of every channel of tokens `[B, N, D]`, averaged."""
    return tokens.float().flatten(0, 1).std(dim=0).mean()


def token_rank(tokens: Tensor) -> Tensor:
    """Return how many directions tokens `[B, N, D]` use, their effective rank.

    It is the exponential of the entropy of the singular values of at most 1024 of them, centred
    (Roy and Vetterli, 2007).
    """
    flat = tokens.float().flatten(0, 1)
    flat = flat[:: max(1, len(flat) // _TOKENS)][:_TOKENS]
    values = torch.linalg.svdvals(flat - flat.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def temporal_diversity(tokens: Tensor, tubelets: int) -> Tensor:
    """Return how much places change from one tubelet to the next, of clips `[B, N, D]`.

    The mean distance of a token to the next one at its place, divided by its mean distance to one
    of another sample and place; 0: time is not seen at all.
    """
    by_time = tokens.float().reshape(len(tokens), tubelets, -1, tokens.shape[-1])
    change = (by_time[:, 1:] - by_time[:, :-1]).abs().mean()
    flat = tokens.float().flatten(0, 1)
    others = flat.roll(len(flat) // 2 + 1, dims=0)
    apart: Tensor = (flat - others).abs().mean().clamp(min=1e-12)
    return change / apart


class CollapseWatch:
    """Compare the signs with the best that were seen, and say when one falls away.

    A sign is judged by its median over the last rows, and reported once until it recovers.
    """

    def __init__(self) -> None:
        self._recent: dict[str, list[float]] = {}
        self._largest: dict[str, float] = {}
        self._reported: set[str] = set()

    def look(self, row: Mapping[str, float]) -> list[str]:
        """Return a warning for every sign that turned bad with a row of the log."""
        warnings = {
            name: self._judge(name, row[name])
            for name in ("token_std", "token_rank", "temporal_diversity")
            if name in row
        }
        new = [text for name, text in warnings.items() if text and name not in self._reported]
        for name, text in warnings.items():
            (self._reported.add if text else self._reported.discard)(name)
        return new

    def _judge(self, name: str, value: float) -> str:
        """Say what is wrong with a sign, or nothing."""
        recent = self._recent.setdefault(name, [])
        recent.append(value)
        del recent[:-_ROWS]
        median = sorted(recent)[len(recent) // 2]
        largest = self._largest[name] = max(median, self._largest.get(name, median))
        if name == "token_rank" and median < _FEWEST_DIRECTIONS:
            return f"token_rank is {median:.3g}: tokens use hardly more than one direction"
        if median < _WARN_BELOW * largest:
            return (
                f"{name} fell to {median:.3g} from {largest:.3g}: the encoder may be collapsing; "
                "lower the learning rate, or raise momentum"
            )
        return ""
