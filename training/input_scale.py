"""Initial input layers of a predictor that fit the size of actions and states."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from trajectories.poses import GRIPPER, POSITION, ROTATION

_ROTATION_SCALE_RAD: Final = 0.3
_CLOSEDNESS_SCALE: Final = 0.5
_LEAST_STATE_SPREAD: Final = 0.05
_ANGLE_SPREAD_RAD: Final = 3.0


def scale_inputs(predictor: ACPredictor, states: Tensor, action_scale_m: float) -> None:
    """Fold the natural scale of actions and states into the input layers.

    Metres are small numbers beside unit-variance tokens; without this the predictor spends most of
    a small budget on finding its own inputs. The architecture stays the published one.

    Args:
        predictor: Changed in place.
        states: States to be expected, `[F, 7]`.
        action_scale_m: Typical translation of an action [m].
    """
    action_scale = torch.ones(7)
    action_scale[POSITION] = action_scale_m
    action_scale[ROTATION] = _ROTATION_SCALE_RAD
    action_scale[GRIPPER] = _CLOSEDNESS_SCALE
    _scale_input(predictor.action_encoder, torch.zeros(7), action_scale)
    if not predictor.config.use_state:
        return
    mean, spread = states.mean(dim=0), states.std(dim=0).clamp(min=_LEAST_STATE_SPREAD)
    # Euler angles near +-pi wrap, so rotations are scaled by a constant rather than standardised.
    mean[ROTATION], spread[ROTATION] = 0.0, _ANGLE_SPREAD_RAD
    _scale_input(predictor.state_encoder, mean, spread)


@torch.no_grad()
def _scale_input(layer: nn.Linear, centre: Tensor, spread: Tensor) -> None:
    layer.weight.copy_(torch.randn_like(layer.weight) / layer.in_features**0.5 / spread)
    layer.bias.copy_(-(layer.weight @ centre))
