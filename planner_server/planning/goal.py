"""Where to go: one or several goal images as tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planner_server.planning.errors import InvalidProblemError

POSE_DIM = 7


@dataclass(frozen=True, eq=False)
class Goal:
    """Goal images, from the encoder that the context came from.

    Attributes:
        tokens: Layer-normed tokens `[G, N, D]` of G goal images.
        weights: How much every image counts, `[G]`, not negative; None counts all alike. Only ratios matter.
        token_mask: Which tokens count, bool `[N]`: the region of interest; None is the whole image.
        states: Poses `[G, 7]` in the goal images [m, rad, closedness]; needed by a proprioceptive energy only.

    Raises:
        InvalidProblemError: Shapes do not fit, numbers are not finite, or nothing counts.
    """

    tokens: Tensor
    weights: Tensor | None = None
    token_mask: Tensor | None = None
    states: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3 or 0 in self.tokens.shape:
            raise InvalidProblemError(
                f"goal tokens have shape {list(self.tokens.shape)}; expected [G, N, D]. "
                "Goal.of takes the [N, D] of one image"
            )
        goals, per_frame = self.tokens.shape[:2]
        for name, value, shape in (
            ("weights", self.weights, (goals,)),
            ("token_mask", self.token_mask, (per_frame,)),
            ("states", self.states, (goals, POSE_DIM)),
        ):
            if value is not None and value.shape != shape:
                raise InvalidProblemError(
                    f"goal {name} have shape {list(value.shape)}; {goals} images of {per_frame} tokens "
                    f"need {list(shape)}"
                )
        for name in ("tokens", "weights", "states"):
            value = getattr(self, name)
            if value is not None and not bool(torch.isfinite(value).all()):
                raise InvalidProblemError(f"goal {name} must be finite numbers")
        if self.weights is not None and (
            bool((self.weights < 0).any()) or float(self.weights.sum()) <= 0
        ):
            raise InvalidProblemError(
                f"goal weights must be >= 0 and not all 0, got {self.weights.tolist()}"
            )
        if self.token_mask is not None and not bool(self.token_mask.bool().any()):
            raise InvalidProblemError("goal token_mask selects no token; select at least one")

    @property
    def shares(self) -> Tensor:
        """How much every image counts, `[G]`; they sum to one, however small or large the weights are."""
        ones = self.tokens.new_ones(len(self.tokens))
        weights = (ones if self.weights is None else self.weights).double()
        return weights / weights.sum()

    @classmethod
    def of(cls, tokens: Tensor) -> Goal:
        """Return the goal that is one image with tokens `[N, D]`."""
        return cls(tokens[None])
