"""How well the robot's state can be read out of tokens: linearly from all of them, or by attention.

A planner compares tokens, so what moves has to show in them. The linear regressor is ridge regression on all
tokens of a frame; the attentive one is a pooler of depth 1 (`training.probes`), to which places do not matter.
Both learn from some episodes and are judged on others, of other workcells in our simulator.

Letters in shapes: S frames, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import AttentiveProbeConfig
from training.diagnostics.runs import Run, Seen, divide
from training.probes.fitting import fit_heads, grid, predict
from training.probes.heads import draw_heads
from training.probes.losses import mean_squared
from trajectories.replay.statistics import Estimate, estimate

Array = NDArray[np.float64]

_PENALTIES: Final = tuple(10.0**power for power in range(-3, 3))  # in shares of the mean variance
_TUNED_ON: Final = 0.2
_RATES: Final = (1e-3, 3e-3)
_DECAYS: Final = (0.01, 0.1)
_BATCH: Final = 64
_HEADS: Final = (16, 8, 4, 2, 1)
_NARROWEST: Final = 8  # channels of an attention head


@dataclass(frozen=True)
class ReadOut:
    """What one regressor reads out of one kind of tokens.

    Attributes:
        eye: Whose tokens.
        regressor: `linear`, `attentive`, or `mean` for answering the mean of all positions.
        error_m: Distance of the flange's position from what was read, over frames [m].
        closedness_error: Mean absolute error of the gripper's closedness, 0 to 1.
        predicted_m: Positions read `[S, 3]` [m].
        true_m: Positions measured `[S, 3]` [m].
    """

    eye: str
    regressor: str
    error_m: Estimate
    closedness_error: Estimate
    predicted_m: Array
    true_m: Array


def read_mean(learned: Sequence[Run], judged: Sequence[Run]) -> ReadOut:
    """Answer the mean position and closedness, whatever the frame: what blind eyes reach."""
    answer = _targets(learned).mean(dim=0)
    return _judge("nothing", "mean", answer.expand(sum(len(r.states) for r in judged), -1), judged)


def read_linearly(eye: str, learned: Seen, judged: Seen) -> ReadOut:
    """Fit ridge regression; its penalty is chosen on some of the episodes to learn from."""
    tokens, targets = _stack(learned), _targets(learned.runs)
    mean, scale = tokens.mean(dim=0), tokens.std(dim=0).mean().clamp(min=1e-6)
    tokens = (tokens - mean) / scale
    tuned = _tuning_rows(learned)
    # The number of frames is far below the number of channels: all in terms of frames.
    products = tokens @ tokens.mT
    errors = [
        _solve(products[~tuned][:, ~tuned], targets[~tuned], share)
        .apply(products[tuned][:, ~tuned])
        .sub(targets[tuned])[:, :3]
        .norm(dim=1)
        .mean()
        for share in _PENALTIES
    ]
    best = _PENALTIES[int(torch.stack(errors).argmin())]
    seen = (_stack(judged) - mean) / scale
    answers = _solve(products, targets, best).apply(seen @ tokens.mT)
    return _judge(eye, "linear", answers, judged.runs)


def read_attentively(eye: str, learned: Seen, judged: Seen, steps: int) -> ReadOut:
    """Fit attentive regressors of several rates; the best on some of the episodes is judged."""
    tokens, targets = torch.cat(list(learned.tokens)), _targets(learned.runs)
    mean, scale = targets.mean(dim=0), targets.std(dim=0).clamp(min=1e-6)
    wanted = (targets - mean) / scale
    tuned = _tuning_rows(learned)
    settings = grid(_RATES, _DECAYS)
    width = tokens.shape[-1]
    network = draw_heads(attentive_config(width), width, [wanted.shape[1]], len(settings), seed=0)
    fit_heads(
        network,
        tokens[~tuned],
        wanted[~tuned],
        settings,
        steps=steps,
        batch_size=_BATCH,
        loss=mean_squared,
    )
    misses = (predict(network, tokens[tuned]) - wanted[tuned])[..., :3].norm(dim=-1).mean(dim=1)
    answers = predict(network, torch.cat(list(judged.tokens)))[int(misses.argmin())]
    return _judge(eye, "attentive", answers * scale + mean, judged.runs)


def attentive_config(width: int) -> AttentiveProbeConfig:
    """Return a pooler of depth 1 with as many attention heads as the width allows, at most 16."""
    fits = (heads for heads in _HEADS if width % heads == 0 and width // heads >= _NARROWEST)
    return AttentiveProbeConfig(embed_dim=width, depth=1, num_heads=next(fits, 1))


@dataclass(frozen=True)
class _Ridge:
    """Weights in terms of the frames that were learned from, `[S, K]`, and the mean answer."""

    weights: Tensor
    mean: Tensor

    def apply(self, products: Tensor) -> Tensor:
        """Answer for frames with these products `[M, S]` with the ones learned from."""
        return products @ self.weights + self.mean


def _solve(products: Tensor, targets: Tensor, share: float) -> _Ridge:
    mean = targets.mean(dim=0)
    penalty = share * products.diagonal().mean() * torch.eye(len(products))
    return _Ridge(torch.linalg.solve(products + penalty, targets - mean), mean)


def _stack(seen: Seen) -> Tensor:
    """Return all tokens of every frame in one row, `[S, N * D]`."""
    return torch.cat(list(seen.tokens)).flatten(1).float()


def _targets(runs: Sequence[Run]) -> Tensor:
    """Return position and closedness of every frame, `[S, 4]`."""
    states = torch.from_numpy(np.concatenate([run.states for run in runs])).float()
    return states[:, [0, 1, 2, 6]]


def _tuning_rows(seen: Seen) -> Tensor:
    """Choose the frames of some episodes, bool `[S]`; of a single episode its last part."""
    names = [run.name for run in seen.runs]
    if len(names) == 1:
        count = len(seen.runs[0].states)
        return torch.arange(count) >= round(count * (1 - _TUNED_ON))
    chosen = {run.name for run in divide(seen.runs, _TUNED_ON)[1]}
    return torch.tensor([name in chosen for name in seen.names])


def _judge(eye: str, regressor: str, answers: Tensor, judged: Sequence[Run]) -> ReadOut:
    truth = _targets(judged).double().numpy()
    found = answers.double().numpy()
    names = [run.name for run in judged for _ in run.states]
    return ReadOut(
        eye,
        regressor,
        estimate(np.linalg.norm(found[:, :3] - truth[:, :3], axis=1), names),
        estimate(np.abs(found[:, 3] - truth[:, 3]), names),
        found[:, :3],
        truth[:, :3],
    )
