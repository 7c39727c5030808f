"""What the model imagines of given actions, as people can look at it; runs in the planning worker's thread.

The heat map is where the energy comes from: the distance of every token from the goal's, before it is averaged. It
needs no decoder. Where the model has one, the imagined tokens are drawn as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner_server.errors import PlannerError
from planner_server.goal_tokens import GoalTokens
from planner_server.goals import SubGoal
from planner_server.options import EnergyOptions
from planner_server.plan_request import Frame
from planner_server.planning import Context, EnergySpec, Goal
from planner_server.planning.energy import Energy
from planner_server.served_model import ServedModel


@dataclass(frozen=True, eq=False)
class Scene:
    """Where imagining begins, and where it shall lead.

    Attributes:
        read_frame: Returns the observed frame, uint8 RGB `[H, W, 3]`; called by the worker.
        state: Pose `[7]` at its capture.
        goal: The goal.
        energy: How the distance is measured.
    """

    read_frame: Callable[[], Frame]
    state: NDArray[np.float64]
    goal: SubGoal
    energy: EnergyOptions


@dataclass(frozen=True, eq=False)
class Imagined:
    """What would come of actions.

    Attributes:
        energy: After the last of them.
        energy_now: Of the observed frame.
        energy_do_nothing: After holding still for as long.
        heat_now: Distance of every observed token from the goal's `[rows, columns]`.
        heat_steps: The same of the tokens predicted after every action `[H, rows, columns]`.
        mask: Which patches count `[rows, columns]`; None: all.
        states: Predicted poses `[H, 7]`.
        pictures: PNG files: the observed frame drawn from its tokens, the goal, every predicted frame; None without
            a decoder.
    """

    energy: float
    energy_now: float
    energy_do_nothing: float
    heat_now: list[list[float]]
    heat_steps: list[list[list[float]]]
    mask: list[list[bool]] | None
    states: list[list[float]]
    pictures: list[bytes] | None


class Stage:
    """A scene with its frame encoded: what several questions about the same moment share.

    Args:
        model: Encodes and imagines.
        goals: The goals' tokens.
        scene: What is seen and wanted.
    """

    def __init__(self, model: ServedModel, goals: GoalTokens, scene: Scene) -> None:
        self._model = model
        self._tokens = model.encode(scene.read_frame()[None])
        self._state = torch.from_numpy(scene.state).to(self._tokens)
        self._goal = goals.goal(scene.goal)
        spec = EnergySpec(**scene.energy.model_dump())
        self._energy = Energy(spec, [self._goal], self._tokens)

    @torch.inference_mode()
    def energy_now(self) -> float:
        """Return the energy of the observed frame."""
        now = self._energy(self._tokens[:, None, None], self._state[None, None, None])
        return _finite([float(now[0, 0])])[0]

    def energies(self, actions: NDArray[np.float64]) -> list[float]:
        """Return the energies of sequences `[S, H, 7]`.

        Raises:
            PlannerError: `planner_failed`, when the model predicts no numbers.
        """
        return _finite(self._imagine(actions, keep_tokens=False)[0].tolist())

    @torch.inference_mode()
    def imagine(self, actions: NDArray[np.float64]) -> Imagined:
        """Imagine one sequence `[H, 7]`.

        Raises:
            PlannerError: `planner_failed`, when the model predicts no numbers.
        """
        both = np.stack([actions, np.zeros_like(actions)])
        energies, poses, tokens = self._imagine(both, keep_tokens=True)
        if tokens is None:  # asked for above
            raise RuntimeError("the engine kept no tokens")
        numbers = _finite(energies.tolist())
        mask = self._goal.token_mask
        return Imagined(
            energy=numbers[0],
            energy_now=self.energy_now(),
            energy_do_nothing=numbers[1],
            heat_now=self._grid(heat_of(self._tokens, self._goal))[0],
            heat_steps=self._grid(heat_of(tokens[0], self._goal)),
            mask=None if mask is None else mask.bool().reshape(self._model.grid).tolist(),
            states=poses[0].tolist(),
            pictures=self._draw(tokens[0]),
        )

    @torch.inference_mode()
    def _imagine(
        self, actions: NDArray[np.float64], *, keep_tokens: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return energies `[S]`, poses `[S, H, 7]` and tokens `[S, H, N, D]` of sequences `[S, H, 7]`."""
        state = self._state[None, None]
        context = Context(self._tokens, state, state.new_zeros(1, 0, len(self._state)))
        found = self._model.engine.evaluate(
            context,
            torch.from_numpy(actions)[None].to(self._tokens),
            self._energy,
            keep=(lambda tokens: tokens) if keep_tokens else None,
            exact=True,
        )
        return found.energies[0], found.poses[0], None if found.tokens is None else found.tokens[0]

    def _grid(self, heat: Tensor) -> list[list[list[float]]]:
        rows, columns = self._model.grid
        grids: list[list[list[float]]] = heat.reshape(-1, rows, columns).tolist()
        return grids

    def _draw(self, predicted: Tensor) -> list[bytes] | None:
        decoder = self._model.decoder
        if decoder is None:
            return None
        images = decoder.draw(torch.cat([self._tokens, self._goal.tokens[:1], predicted]))
        return [_png(image) for image in images.cpu().numpy()]


def heat_of(tokens: Tensor, goal: Goal) -> Tensor:
    """Return how far tokens `[B, N, D]` are from a goal's, per token `[B, N]`.

    Several images of a goal count by their weights, as in the energy, whose mean over the tokens that count this is.
    """
    goal_tokens = goal.tokens.to(tokens)
    shares = goal.shares.to(tokens)
    distances = (tokens[:, None] - goal_tokens[None]).abs().mean(dim=-1)
    return (distances * shares[None, :, None]).sum(dim=1)


def _finite(numbers: list[float]) -> list[float]:
    if not np.isfinite(numbers).all():
        raise PlannerError(
            "planner_failed",
            "the model predicted numbers that are not finite; try PLANNER_PRECISION=float32",
        )
    return numbers


def _png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
