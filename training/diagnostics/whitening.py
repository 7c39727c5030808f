"""Tokens turned so that all of their directions count alike: a linear map, learned without labels.

What an encoder has much to say about, such as appearance, takes up most of the variance of its tokens; what
it says quietly, such as motion, is hard to find for a probe that learns from a thousand clips. Whitening
changes what is easy to learn, not what can be known: it can be undone.

Letters in shapes: M samples, N tokens, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_FLOOR: Final = 1e-4  # of the largest variance; smaller directions are not blown up further
_AT_ONCE: Final = 64


@dataclass(frozen=True)
class Whitening:
    """A shift and a linear map.

    Attributes:
        mean: `[D]`.
        turn: `[D, D]`.
    """

    mean: Tensor
    turn: Tensor

    def apply(self, tokens: Tensor) -> Tensor:
        """Whiten tokens `[M, N, D]`, keeping their type."""
        parts = [
            ((part.float() - self.mean) @ self.turn).to(tokens.dtype) for part in _parts(tokens)
        ]
        return torch.cat(parts)


def learn_whitening(tokens: Tensor) -> Whitening:
    """Learn the map from tokens `[M, N, D]`."""
    count = tokens.shape[0] * tokens.shape[1]
    mean = torch.stack([part.double().sum(dim=(0, 1)) for part in _parts(tokens)]).sum(0) / count
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in _parts(tokens):
        centred = (part.flatten(0, 1) - mean.float()).float()
        products += (centred.mT @ centred).double()
    values, vectors = torch.linalg.eigh(products / count)
    scale = values.clamp(min=_FLOOR * float(values.max()) + 1e-12).rsqrt()
    return Whitening(mean.float(), (vectors * scale).float())


def _parts(tokens: Tensor) -> tuple[Tensor, ...]:
    return torch.split(tokens, _AT_ONCE)
