"""Action-conditioned post-training: predict the next frame's tokens from tokens, action and state.

The encoder is frozen and runs once per frame; the predictor learns by L1 with teacher forcing and,
now and then, a two-step rollout on its own prediction (arXiv 2506.09985, section 3.1, equations
2-4). A training pair may span several rows: the action is the difference of the two measured
states, so one recording teaches small and large steps alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.ac_predictor import ACPredictor
from training.config import PosttrainConfig
from training.optimiser import Optimiser
from training.progress import RunLog
from trajectories.poses import GRIPPER, POSITION, ROTATION, difference

_ROLLOUT_WEIGHT = 0.5


@dataclass(frozen=True)
class Transitions:
    """A batch of three frames in a row: tokens `[B, 3, N, D]`, states and actions `[B, 3|2, 7]`."""

    tokens: Tensor
    states: Tensor
    actions: Tensor


class TransitionSampler:
    """Draw frame triples from encoded episodes, one to `max_stride` rows apart.

    Args:
        tokens: float16 `[E, T, N, D]`.
        states: float64 `[E, T, 7]`.
        max_stride: Largest distance of neighbouring frames in a triple, in rows.
        max_step_m: Triples whose first action is larger than the planner may choose are left out.
    """

    def __init__(
        self, tokens: Tensor, states: NDArray[np.float64], max_stride: int, max_step_m: float
    ) -> None:
        self._tokens = tokens
        self._states = states
        self._index = _index_triples(states, max_stride, max_step_m)

    def __len__(self) -> int:
        return len(self._index)

    def sample(self, batch: int, generator: torch.Generator) -> Transitions:
        """Draw `batch` triples uniformly."""
        chosen = torch.randint(0, len(self._index), (batch,), generator=generator).numpy()
        episode, first, second, third = self._index[chosen].T
        times = np.stack([first, second, third], axis=1)
        states = self._states[episode[:, None], times]
        actions = difference(states[:, :-1], states[:, 1:])
        tokens = self._tokens[torch.from_numpy(episode)[:, None], torch.from_numpy(times)]
        return Transitions(
            tokens.float(), torch.from_numpy(states).float(), torch.from_numpy(actions).float()
        )


def _index_triples(
    states: NDArray[np.float64], max_stride: int, max_step_m: float
) -> NDArray[np.int64]:
    """List (episode, first, second, third) of every triple whose first step is within the box."""
    length = states.shape[1]
    rows = []
    for stride in range(1, max_stride + 1):
        for first in range(length - 2):
            second = first + stride
            third = min(second + stride, length - 1)
            if second >= third:
                continue
            step = np.abs(states[:, second, POSITION] - states[:, first, POSITION]).max(axis=-1)
            inside = np.flatnonzero(step <= max_step_m)
            rows.append(
                np.stack([inside, *(np.full_like(inside, t) for t in (first, second, third))], 1)
            )
    return np.concatenate(rows)


def scale_inputs(
    predictor: ACPredictor, states: NDArray[np.float64], action_scale_m: float
) -> None:
    """Fold the natural scale of actions and states into the input layers.

    Metres are small numbers beside unit-variance tokens; without this the predictor spends most of
    a small budget on finding its own inputs. The architecture stays the published one.
    """
    action_scale = torch.ones(7)
    action_scale[POSITION] = action_scale_m
    action_scale[ROTATION] = 0.3
    action_scale[GRIPPER] = 0.5
    flat = torch.from_numpy(states.reshape(-1, 7)).float()
    # Euler angles near +-pi wrap, so rotations are scaled by a constant rather than standardised.
    scale = flat.std(dim=0).clamp(min=0.05)
    mean = flat.mean(dim=0)
    mean[ROTATION], scale[ROTATION] = 0.0, 3.0
    with torch.no_grad():
        for layer, centre, spread in (
            (predictor.action_encoder, torch.zeros(7), action_scale),
            (predictor.state_encoder, mean, scale),
        ):
            weight = torch.randn_like(layer.weight) / 7**0.5
            layer.weight.copy_(weight / spread)
            layer.bias.copy_(-(layer.weight @ centre))


def train_predictor(
    config: PosttrainConfig, predictor: ACPredictor, sampler: TransitionSampler, log: RunLog
) -> None:
    """Optimise the predictor in place."""
    generator = torch.Generator().manual_seed(config.seed)
    optimiser = Optimiser([predictor], config.optimiser)
    for step in range(config.optimiser.steps):
        batch = sampler.sample(config.optimiser.batch_size, generator)
        with_rollout = step % config.rollout_every == 0
        with torch.autocast("cpu", torch.bfloat16):
            loss = (rollout_loss if with_rollout else one_step_loss)(predictor, batch)
        optimiser.step(loss, step)
        if not with_rollout:
            log.update(step, loss=float(loss.detach()))


def one_step_loss(predictor: ACPredictor, batch: Transitions) -> Tensor:
    """L1 between the predicted and the true next tokens from a context of one frame."""
    predicted = predictor(batch.tokens[:, 0], batch.actions[:, :1], batch.states[:, :1])
    return F.l1_loss(normalise(predicted), batch.tokens[:, 1])


def rollout_loss(predictor: ACPredictor, batch: Transitions) -> Tensor:
    """One-step loss plus the loss of a second step taken from the model's own prediction.

    The second step sees the true first frame, the predicted second frame and true states; it is
    compared with the true third frame.
    """
    first = normalise(predictor(batch.tokens[:, 0], batch.actions[:, :1], batch.states[:, :1]))
    context = torch.cat([batch.tokens[:, 0], first.to(batch.tokens.dtype)], dim=1)
    second = predictor(context, batch.actions, batch.states[:, :2])
    second = normalise(second[:, first.shape[1] :])
    return F.l1_loss(first, batch.tokens[:, 1]) + _ROLLOUT_WEIGHT * F.l1_loss(
        second, batch.tokens[:, 2]
    )


def normalise(tokens: Tensor) -> Tensor:
    """Layer-normalise tokens without affine parameters, in float32."""
    return F.layer_norm(tokens.float(), (tokens.shape[-1],))
