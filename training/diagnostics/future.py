"""How far ahead a world model sees: its error by horizon against copying the last frame.

Recorded actions are imagined from every row that enough rows follow. Two comparisons: the last frame seen,
copied, and the same model with the actions of another moment, which tells whether it listens to them.

Letters in shapes: B windows, H control periods ahead, N tokens, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.world_model import WorldModel
from training.diagnostics.runs import Seen
from trajectories.poses import difference
from trajectories.replay.statistics import Estimate, PairedEstimate, compare, estimate

Array = NDArray[np.float64]

_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Horizon:
    """What is known about one number of control periods.

    Attributes:
        steps: Control periods ahead.
        error: Mean absolute difference of predicted and seen tokens.
        copied: The same for the last frame seen.
        other_actions: The same for the model with the actions of another window.
        gain: `error` minus `copied`; below zero the model knows more than the last frame.
    """

    steps: int
    error: Estimate
    copied: Estimate
    other_actions: Estimate
    gain: PairedEstimate


@dataclass(frozen=True)
class Windows:
    """Stretches of runs: tokens now `[B, N, D]`, states `[B, 7]`, actions `[B, H, 7]`, tokens to come."""

    now: Tensor
    states: Tensor
    actions: Tensor
    future: Tensor
    names: list[str]


def judge_future(model: WorldModel, seen: Seen, horizon: int) -> list[Horizon]:
    """Measure the error 1 to `horizon` control periods ahead; fewer where runs are shorter."""
    shortest = min(len(run.states) for run in seen.runs)
    windows = cut_windows(seen, min(horizon, shortest - 1))
    # The farthest window in the list belongs to another run, or at least to another time.
    others = windows.actions.roll(len(windows.actions) // 2, dims=0)
    error, mistaken = (
        _errors(imagine(model, windows.now, windows.states, actions), windows.future)
        for actions in (windows.actions, others)
    )
    copied = _errors(windows.now.unsqueeze(1), windows.future)
    return [
        Horizon(
            step + 1,
            estimate(error[:, step], windows.names),
            estimate(copied[:, step], windows.names),
            estimate(mistaken[:, step], windows.names),
            compare(copied[:, step], error[:, step], windows.names),
        )
        for step in range(error.shape[1])
    ]


def cut_windows(seen: Seen, horizon: int) -> Windows:
    """Return the windows that start at every row with `horizon` rows behind it."""
    now, states, actions, future, names = [], [], [], [], []
    for run, tokens in zip(seen.runs, seen.tokens, strict=True):
        moves = difference(run.states[:-1], run.states[1:])
        for row in range(len(run.states) - horizon):
            now.append(tokens[row])
            states.append(run.states[row])
            actions.append(moves[row : row + horizon])
            future.append(tokens[row + 1 : row + 1 + horizon])
            names.append(run.name)
    return Windows(
        torch.stack(now),
        torch.from_numpy(np.stack(states)).float(),
        torch.from_numpy(np.stack(actions)).float(),
        torch.stack(future),
        names,
    )


@torch.no_grad()
def imagine(model: WorldModel, now: Tensor, states: Tensor, actions: Tensor) -> Tensor:
    """Predict tokens `[B, H, N, D]` on the CPU from tokens `[B, N, D]` and actions `[B, H, 7]`."""
    device = next(model.parameters()).device
    parts = zip(*(torch.split(each, _AT_ONCE) for each in (now, states, actions)), strict=True)
    return torch.cat(
        [model.rollout(*(each.to(device) for each in part))[0].cpu() for part in parts]
    )


def _errors(predicted: Tensor, seen: Tensor) -> Array:
    """Return mean absolute differences of tokens `[B, H, N, D]`, `[B, H]`."""
    errors: Array = (predicted - seen).abs().mean(dim=(2, 3)).double().numpy()
    return errors
