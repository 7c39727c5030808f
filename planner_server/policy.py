"""The served model and its planner as a policy: a frame, a state and goal images in, an action out.

What closed-loop benchmarks drive a robot with, in place of the service: the same model, planner,
options, precision and action box, without wire and sessions. Knows no simulator and is shown no
truth. `python -m simulation evaluate` finds the functions here by name.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner_server.errors import StartupError
from planner_server.memories import Seen, context_of
from planner_server.planning import (
    ActionBounds,
    Goal,
    Planner,
    PlanningProblem,
    WorldModelDynamics,
    goal_energy,
    planners,
)
from planner_server.planning.dynamics import Context
from planner_server.served_model import ServedModel, load_served_model
from planner_server.settings import Settings, load_settings

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]
Gripper = Literal["held", "planned"]

_GRIPPER = 6
_STATE_DIM = 7


class PlannerPolicy:
    """Encode the frame, plan towards the goal's tokens, act: what the service does for every observation.

    Args:
        model: The served model.
        planner: Search with it.
        max_step: Box of actions `[7]` [m, rad, closedness].
        horizon: Control periods planned; the first action is returned.
        context: Frames conditioned on, the newest included.
        description: Of the planner: its name and options.
    """

    def __init__(
        self,
        model: ServedModel,
        planner: Planner,
        max_step: Sequence[float],
        horizon: int = 1,
        context: int = 1,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._planner, self._horizon = model, planner, horizon
        self._bounds = ActionBounds.symmetric(tuple(max_step))
        self._context = context
        self._seen: deque[Seen] = deque(maxlen=context - 1)
        self._dynamics = WorldModelDynamics(model.world_model)
        self._goals: list[Tensor] = []
        self._plans = 0
        self.numbers: dict[str, float] = {}
        self.description: dict[str, Any] = {
            "model": model.name,
            "sha256": model.sha256,
            "parameters": model.parameters,
            "precision": model.precision,
            "device": str(model.device),
            **(description or {}),
            "horizon": horizon,
            "context": context,
            "max_step": list(max_step),
            "control_period_s": model.control_period_s,
        }

    def begin(self, goals: Sequence[Frame]) -> None:
        """Encode the goal images of a new episode, uint8 RGB `[H, W, 3]` each, once."""
        self._goals = [self._encode(goal) for goal in goals]
        self._plans = 0
        self._seen.clear()

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return the first action `[7]` of a plan from this frame and state `[7]`."""
        started_s = time.monotonic()
        tokens = self._encode(frame)
        newest = Seen(tokens, torch.from_numpy(state).to(tokens))
        chain, actions = context_of(self._seen, newest, self._context, self._model.max_step)
        self._seen.append(newest)
        problem = PlanningProblem(
            context_tokens=torch.cat([seen.tokens for seen in chain]),
            context_states=torch.stack([seen.state for seen in chain]),
            context_actions=torch.stack(actions) if actions else None,
            goal=Goal.of(self._goals[goal_index]),
            bounds=self._bounds,
            horizon=self._horizon,
            seed=self._plans,  # fresh candidates at every step, as the service draws them
        )
        self._plans += 1
        (plan,) = self._planner.plan([problem])
        self.numbers = {
            "energy_now": plan.energy_now,
            "energy": plan.energy,
            "energy_do_nothing": plan.energy_do_nothing,
            "evaluations": float(plan.evaluations),
            "plan_ms": 1e3 * (time.monotonic() - started_s),
        }
        return np.asarray(plan.actions[0], np.float64)

    @torch.inference_mode()
    def imagine(self, frame: Frame, state: Array, actions: Array) -> Frame | None:
        """Return pictures uint8 RGB `[H, h, w, 3]` of what the model expects of actions `[H, 7]`.

        Open loop: after the first step the model goes on from its own predictions, as far as it
        can look ahead. None where the model has no decoder.
        """
        if self._model.decoder is None:
            return None
        tokens = self._encode(frame)[None]
        states = torch.from_numpy(state)[None, None].to(tokens)
        ahead = torch.from_numpy(actions[: self._dynamics.max_frames])[None, None].to(tokens)
        context = Context(tokens, states, tokens.new_zeros(1, 0, _STATE_DIM))
        imagined, _ = self._dynamics.rollout(context, ahead)
        return np.asarray(self._model.decoder.draw(imagined[0, 0]).cpu().numpy(), np.uint8)

    def _encode(self, frame: Frame) -> Tensor:
        """Return the tokens `[N, D]` of a frame."""
        return self._model.encode(frame[None])[0]


class TokenEnergy:
    """How far pictures are from goal images in the tokens of a model: the planners' energy without dynamics.

    Args:
        model: Whose encoder counts.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._goals: list[Tensor] = []

    def begin(self, goals: Sequence[Frame]) -> None:
        """Encode the goal images of a new episode."""
        self._goals = [self._model.encode(goal[None])[0] for goal in goals]

    def energies(self, frames: Sequence[Frame], goal_index: int) -> Array:
        """Return the energy of every frame, uint8 RGB `[H, W, 3]`."""
        energies = goal_energy(self._model.encode(np.stack(frames)), self._goals[goal_index])
        return np.asarray(energies.double().cpu().numpy(), np.float64)


def served(
    model: str | None = None,
    planner: str | None = None,
    gripper: Gripper = "held",
    max_step_m: float | None = None,
    horizon: int | None = None,
    context: int = 1,
    **options: Any,
) -> PlannerPolicy:
    """Return the configured model with its planner, as the service would run them.

    Args:
        model: Folder or file of the world model; the configured one by default.
        planner: Name of the planner; the configured one by default.
        gripper: `held`: the gripper is not planned; `planned`: it is searched like everything else.
        max_step_m: Largest displacement per axis, where the model's box is to be narrowed.
        horizon: Control periods planned; the configured number by default.
        context: Frames conditioned on, the newest included.
        options: Options of the planner.

    Raises:
        StartupError: The model cannot be loaded, or an option does not exist.
    """
    settings = _settings(model, max_step_m)
    name = planner or settings.default_planner
    loaded = load_served_model(settings)
    max_step = list(loaded.max_step)
    if gripper == "held":
        max_step[_GRIPPER] = 0.0
    elif gripper != "planned":
        raise StartupError(f"gripper is {gripper!r}; choose held or planned")
    if context < 1:
        raise StartupError(f"context is {context}; condition on 1 frame or more")
    chosen = _options(settings, name, options)
    return PlannerPolicy(
        loaded,
        planners.make(name, loaded.engine, chosen),
        max_step,
        horizon or settings.horizon,
        context,
        {"planner": name, "options": dataclasses.asdict(chosen)},
    )


def token_energy(model: str | None = None) -> TokenEnergy:
    """Return the energy of the configured model, or of the one in `model`."""
    return TokenEnergy(_loaded(model))


@functools.cache
def _loaded(model: str | None) -> ServedModel:
    return load_served_model(_settings(model, None))


def _settings(model: str | None, max_step_m: float | None) -> Settings:
    settings = load_settings()
    changes: dict[str, Any] = {}
    if model is not None:
        changes["model"] = Path(model)
    if max_step_m is not None:
        changes["max_step_m"] = max_step_m
    return settings.model_copy(update=changes)


def _options(settings: Settings, name: str, options: Mapping[str, Any]) -> Any:
    """Return the checked options of a planner: configured ones, and others in their place."""
    if name not in planners:
        raise StartupError(f"planner {name!r} does not exist; one of {', '.join(planners)}")
    try:
        return planners.settings(name, **{**settings.planners.get(name, {}), **options})
    except (TypeError, ValueError) as error:
        raise StartupError(f"options of {name}: {error}") from error
