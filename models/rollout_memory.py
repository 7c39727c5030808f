"""What a rollout remembers: keys and values of frames that later ones attend to, and what candidates share.

Letters in shapes: P problems, S candidates of each, B = P * S, T frames, N patches per frame, K tokens
per frame (action, state, patches), D channels of a token, W channels inside the predictor, C channels
of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValues:
    """What later tokens may attend to: keys and values `[P or B, heads, tokens, C]`."""

    keys: Tensor
    values: Tensor

    def repeat(self, candidates: int) -> KeyValues:
        """Return these for every candidate of their problem, `[P * S, heads, tokens, C]`."""
        return KeyValues(repeat(self.keys, candidates), repeat(self.values, candidates))

    def after(self, before: KeyValues | None) -> KeyValues:
        """Return the keys and values of both, those of `before` first.

        They are copied into one piece: in a larger one, filled frame by frame, they would lie in strides, and a CPU
        loses more time by multiplying those than the copies take.
        """
        if before is None:
            return self
        return KeyValues(
            torch.cat([before.keys, self.keys], dim=2),
            torch.cat([before.values, self.values], dim=2),
        )


Cache = list[KeyValues | None]
"""What there is to attend to in every block; None: nothing."""


@dataclass(frozen=True)
class Memory:
    """What all candidates of a problem have in common.

    Attributes:
        frames: Frames remembered, T.
        tokens: Layer-normed tokens of the current frame `[P, N, D]`.
        state: Pose at the current frame `[P, 7]` [m, rad, closedness].
        past: What the frames before the current one left; in the first block also what state and
            patches of the current frame leave, `known`.
        known: The same of the first block.
        embedded: State and patches of the current frame as the first block gets them
            `[P, K - 1, W]`.
        queries: Their queries in the first block `[P, heads, K - 1, C]`.
        attended: What these find in `known` `[P, heads, K - 1, C]`.
        log_sum: Logarithm of the sum of the exponential scores there `[P, heads, K - 1, 1]`.
    """

    frames: int
    tokens: Tensor
    state: Tensor
    past: Cache
    known: KeyValues
    embedded: Tensor
    queries: Tensor
    attended: Tensor
    log_sum: Tensor


def repeat(value: Tensor, candidates: int) -> Tensor:
    """Return a value `[P, ..]` for every candidate of its problem, `[P * S, ..]`."""
    return value.unsqueeze(1).expand(-1, candidates, *value.shape[1:]).flatten(0, 1)
