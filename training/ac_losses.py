"""What action-conditioned post-training minimises (arXiv 2506.09985, section 3.1, equations 2-4).

Letters in shapes: B windows, T frames of a window, K steps of a rollout, N tokens per frame, D channels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.poses import compose
from models.world_model import normalise
from training.episodes import Windows

RolloutStates = Literal["measured", "predicted"]
"""Poses that a rollout is told: `measured`, as published, or `predicted`: the first pose moved by the
actions, which is all that the planner will have."""

RolloutContext = Literal["own_predictions", "second_target_as_first_published"]
"""`own_predictions`: every step sees what the steps before it predicted. The other one is a defect of
the code that the first published predictor was trained with: the second frame of the context was the
teacher-forced prediction of the *third* frame. Use it to compare with that predictor only."""


class LossTerms(NamedTuple):
    """Mean distances to the true frames.

    Attributes:
        teacher_forcing: Of every next frame from true frames.
        rollout: Of frames that were predicted from predictions; None where there was no rollout.
    """

    teacher_forcing: Tensor
    rollout: Tensor | None

    def total(self, rollout_weight: float) -> Tensor:
        """Return the sum that is minimised."""
        if self.rollout is None:
            return self.teacher_forcing
        return self.teacher_forcing + rollout_weight * self.rollout


def predict(predictor: ACPredictor, tokens: Tensor, actions: Tensor, states: Tensor) -> Tensor:
    """Predict the next frame of every frame, layer-normed.

    Args:
        predictor: The predictor; told the states only if it knows a state token.
        tokens: Layer-normed tokens `[B, T, N, D]`.
        actions: Actions `[B, T, 7]`.
        states: States `[B, T, 7]`.

    Returns:
        Tokens `[B, T, N, D]`, float32; frame t is the prediction for frame t + 1.
    """
    known = states if predictor.config.use_state else None
    return normalise(predictor(tokens.flatten(1, 2), actions, known)).view(tokens.shape)


def imagine(predictor: ACPredictor, first: Tensor, states: Tensor, actions: Tensor) -> Tensor:
    """Predict K frames one after the other, each from the first frame and the predictions before it.

    Args:
        predictor: The predictor.
        first: Tokens of the first frame `[B, N, D]`.
        states: The first state `[B, 7]`, from which the actions lead on, or what the predictor is told
            at every step, `[B, K, 7]`.
        actions: Actions `[B, K, 7]`.

    Returns:
        Tokens `[B, K, N, D]`, float32.
    """
    told = states if states.ndim == 3 else follow(states, actions)[:, :-1]
    frames = [first.float()]
    for step in range(actions.shape[1]):
        context = torch.stack(frames, dim=1)
        n = step + 1
        frames.append(predict(predictor, context, actions[:, :n], told[:, :n])[:, -1])
    return torch.stack(frames[1:], dim=1)


def follow(state: Tensor, actions: Tensor) -> Tensor:
    """Return the poses `[B, K + 1, 7]` that actions `[B, K, 7]` lead to, the first one included."""
    poses = [state]
    for action in actions.unbind(dim=1):
        poses.append(compose(poses[-1], action))
    return torch.stack(poses, dim=1)


def loss_terms(
    predictor: ACPredictor,
    windows: Windows,
    *,
    context_frames: int,
    rollout_steps: int = 0,
    states: RolloutStates = "measured",
    context: RolloutContext = "own_predictions",
    exponent: float = 1.0,
) -> LossTerms:
    """Compare predictions with the true frames.

    The first step of the rollout is the teacher-forced prediction from the first frame, which is not
    computed again; gradients flow through all steps.

    Args:
        predictor: The predictor.
        windows: At least `context_frames + 1` and `rollout_steps + 1` frames.
        context_frames: True frames that are predicted from, each by all before it.
        rollout_steps: Frames to predict from the first one alone, 2 or more; 0: no rollout.
        states: See `RolloutStates`.
        context: See `RolloutContext`.
        exponent: Exponent of the distance, p in mean |.|^p / p.
    """
    tokens, n = windows.tokens, context_frames
    forced = predict(predictor, tokens[:, :n], windows.actions[:, :n], windows.states[:, :n])
    teacher_forcing = distance(forced, tokens[:, 1 : n + 1], exponent)
    if not rollout_steps:
        return LossTerms(teacher_forcing, None)
    told = windows.states
    if states == "predicted":
        told = follow(windows.states[:, 0], windows.actions)
    second = 0 if context == "own_predictions" else 1
    frames = [tokens[:, 0].float(), forced[:, second]]
    for count in range(2, rollout_steps + 1):
        seen = torch.stack(frames, dim=1)
        frames.append(predict(predictor, seen, windows.actions[:, :count], told[:, :count])[:, -1])
    rolled = torch.stack(frames[1:], dim=1)
    return LossTerms(teacher_forcing, distance(rolled, tokens[:, 1 : rollout_steps + 1], exponent))


def distance(predicted: Tensor, true: Tensor, exponent: float = 1.0) -> Tensor:
    """Return mean |predicted - true|^p / p."""
    error = (predicted - true).abs()
    return error.mean() if exponent == 1.0 else error.pow(exponent).mean() / exponent
