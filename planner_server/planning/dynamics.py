"""What a planner needs of a world model: imagine the tokens that follow from actions."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Dynamics(Protocol):
    """A model that can be unrolled; `models.world_model.WorldModel` is one."""

    def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine the future of a batch of candidates.

        Args:
            tokens: Layer-normed tokens `[B, N, D]` of the current frame.
            state: Pose `[B, 7]`: metres, extrinsic xyz Euler radians, gripper closedness.
            actions: Candidate actions `[B, H, 7]`, one per control period.

        Returns:
            Layer-normed predicted tokens `[B, H, N, D]` and predicted poses `[B, H, 7]`.
        """
        ...


class Bfloat16Dynamics:
    """Run another model's matrix products in bfloat16: faster where the hardware has it, about 1e-2 less exact.

    Args:
        dynamics: The model to run.
        device_type: "cpu" or "cuda", where its weights live.
    """

    def __init__(self, dynamics: Dynamics, device_type: str) -> None:
        self._dynamics = dynamics
        self._device_type = device_type

    def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine as `Dynamics.rollout` does; the tokens come back in single precision."""
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            predicted, states = self._dynamics.rollout(tokens, state, actions)
        return predicted.float(), states
