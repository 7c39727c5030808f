"""What a planner needs of a world model: imagine the tokens that follow from actions.

Letters in shapes: P problems planned together, S candidates of each, H horizon, k frames of context, N tokens per
frame, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Context:
    """What candidates start from, for P problems; what a model computes from it once is kept with the object.

    Attributes:
        tokens: Layer-normed tokens `[P, k * N, D]` of the frames so far, oldest first.
        states: Pose at each frame `[P, k, 7]` [m, rad, closedness].
        actions: Actions that led from each frame to the next, `[P, k - 1, 7]`.
    """

    tokens: Tensor
    states: Tensor
    actions: Tensor
    _parts: dict[tuple[int, int], Context] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of problems, P."""
        return len(self.states)

    @property
    def frames(self) -> int:
        """Frames of context, k."""
        return self.states.shape[1]

    def select(self, problems: slice) -> Context:
        """Return some of the problems; the same ones are the same object every time."""
        start, stop, _ = problems.indices(len(self))
        if (start, stop) == (0, len(self)):
            return self
        if (start, stop) not in self._parts:
            rows = slice(start, stop)
            part = Context(self.tokens[rows], self.states[rows], self.actions[rows])
            self._parts[start, stop] = part
        return self._parts[start, stop]


class Dynamics(Protocol):
    """A model that can be unrolled: a pure function, differentiable in the actions."""

    @property
    def max_frames(self) -> int:
        """Most frames of context and horizon together, k + H - 1."""
        ...

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine the future of candidates.

        Args:
            context: What they start from.
            actions: Candidate actions `[P, S, H, 7]`, one per control period [m, rad, closedness].

        Returns:
            Layer-normed predicted tokens `[P, S, H, N, D]`, float32, and predicted poses `[P, S, H, 7]`.
        """
        ...
