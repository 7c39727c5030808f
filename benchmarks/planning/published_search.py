"""The published search, executed the published way: what every speed-up is measured against.

Single precision; every step of the horizon sends the whole history through the predictor again, under a dense mask,
for every candidate its own copy of the context; poses are composed one candidate at a time by scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from benchmarks import reference_path
from models.ac_predictor import ACPredictor

Noise = Callable[[int, int], Tensor]
"""From candidates and axes to standard normal numbers `[candidates, axes]`."""

_MOMENTUM = 0.15
_GRIPPER_LIMIT = 0.75
_GRIPPER_DEAD_ZONE = 0.25
_POSE_DIM = 7


@dataclass(frozen=True)
class PublishedSearch:
    """The cross-entropy method of V-JEPA 2-AC.

    Attributes:
        candidates: Action sequences per iteration.
        elites: The best ones.
        iterations: Refits of the distribution.
        max_step_m: Largest translation per axis [m].
    """

    max_step_m: float
    candidates: int = 800
    elites: int = 10
    iterations: int = 10

    @torch.inference_mode()
    def plan(
        self,
        predictor: ACPredictor,
        start: tuple[Tensor, Tensor],
        goal: Tensor,
        horizon: int,
        noise: Noise,
    ) -> Tensor:
        """Return the mean of the last distribution, `[horizon, 7]`.

        Args:
            predictor: The predictor, in single precision.
            start: Tokens `[N, D]` of the current frame, and its pose `[7]`.
            goal: Tokens `[N, D]` of the goal image.
            horizon: Steps to plan.
            noise: Source of the draws, called per iteration and, inside it, per step.
        """
        mean = torch.zeros(horizon, 4)
        std = torch.tensor([*(self.max_step_m,) * 3, 1.0]).repeat(horizon, 1)
        for _ in range(self.iterations):
            actions, drawn = self._draw(mean, std, noise)
            predicted = self._roll_out(predictor, *start, actions)
            losses = (predicted - goal).abs().mean(dim=(1, 2))
            best = drawn[losses.topk(self.elites, largest=False).indices]
            mean = best.mean(dim=0) * (1 - _MOMENTUM) + mean * _MOMENTUM
            std = best.std(dim=0) * (1 - _MOMENTUM) + std * _MOMENTUM
        answer = torch.zeros(horizon, _POSE_DIM)
        answer[:, :3], answer[:, 6] = mean[:, :3], mean[:, 3]
        answer[answer[:, 6].abs() < _GRIPPER_DEAD_ZONE, 6] = 0.0
        return answer

    def _draw(self, mean: Tensor, std: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return actions `[S, H, 7]`, and the four numbers drawn of each `[S, H, 4]`."""
        steps = [noise(self.candidates, 4) * std[h] + mean[h] for h in range(len(mean))]
        drawn = torch.stack(steps, dim=1)
        drawn[..., :3] = drawn[..., :3].clamp(-self.max_step_m, self.max_step_m)
        drawn[..., 3] = drawn[..., 3].clamp(-_GRIPPER_LIMIT, _GRIPPER_LIMIT)
        actions = torch.zeros(*drawn.shape[:2], _POSE_DIM)
        actions[..., :3], actions[..., 6] = drawn[..., :3], drawn[..., 3]
        return actions, drawn

    def _roll_out(
        self, predictor: ACPredictor, tokens: Tensor, state: Tensor, actions: Tensor
    ) -> Tensor:
        """Return the last predicted frame of every candidate, `[S, N, D]`."""
        device = tokens.device
        frames = tokens.float().repeat(len(actions), 1, 1)
        poses = state.float().repeat(len(actions), 1, 1)
        for step in range(actions.shape[1]):
            done = actions[:, : step + 1]
            inputs = (frames, done.to(device), poses.to(device))
            predicted = reference_path.predict(predictor, *inputs)
            frames = torch.cat([frames, predicted], dim=1)
            poses = torch.cat([poses, next_poses(poses[:, -1], actions[:, step])[:, None]], dim=1)
        return predicted


def next_poses(poses: Tensor, actions: Tensor) -> Tensor:
    """Compose poses `[S, 7]` with actions `[S, 7]`, one at a time."""
    composed = [_compose(*pair) for pair in zip(poses.cpu().numpy(), actions.numpy(), strict=True)]
    return torch.from_numpy(np.stack(composed)).to(poses)


def _compose(pose: np.ndarray, action: np.ndarray) -> np.ndarray:
    turn = Rotation.from_euler("xyz", action[3:6]).as_matrix()
    rotation = turn @ Rotation.from_euler("xyz", pose[3:6]).as_matrix()
    euler = Rotation.from_matrix(rotation).as_euler("xyz")
    return np.concatenate([pose[:3] + action[:3], euler, np.clip(pose[6:] + action[6:], 0, 1)])
