"""Action-conditioned post-training: predict the next frame's tokens from tokens, action and state.

The encoder is frozen and sees every frame once: in an update, or once and for all, when tokens come
from a cache (`training.latent_cache`). What is minimised stands in `training.ac_losses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.checkpoint import save_world_model
from models.world_model import WorldModel
from training.ac_losses import distance
from training.action_score import PlanningJudge, PlanningScore, PlanningWatch, SearchSettings
from training.batches import seed_of
from training.episodes import Episodes, PixelWindows, Windows
from training.errors import ConfigurationError
from training.input_scale import scale_inputs
from training.latents import FrameEncoder
from training.loop import Training
from training.lora import add_lora, merge_lora
from training.posttrain_config import PosttrainConfig
from training.posttrain_network import Imagination, PosttrainNetwork
from training.windows import WindowSampler, WindowSettings, check_strides, split_episodes

STORED_TYPE: Final = torch.float16  # half the file; planning computes from these values

_VALIDATION: Final = 2**32  # no update has this number
_STATE_EPISODES: Final = 1000  # enough to know how far states spread


class WindowSource:
    """Makes groups of windows for training.

    Args:
        data: The episodes.
        episodes: Those to learn from.
        recipe: Which windows, and how many.
    """

    def __init__(self, data: Episodes, episodes: Sequence[str], recipe: PosttrainConfig) -> None:
        self._recipe = recipe
        self._plain = WindowSampler(data, episodes, recipe.windows(rollout=False))
        self._rolled = self._plain
        if recipe.loss.frames(rollout=True) != recipe.loss.frames(rollout=False):
            self._rolled = WindowSampler(data, episodes, recipe.windows(rollout=True))

    def __len__(self) -> int:
        return len(self._plain)

    def __call__(self, step: int, group: int) -> Windows | PixelWindows:
        """Make group `group` of the batch of update `step`."""
        loss = self._recipe.loss
        with_rollout = bool(loss.rollout_steps) and step % loss.rollout_every == 0
        sampler = self._rolled if with_rollout else self._plain
        generator = torch.Generator().manual_seed(seed_of(self._recipe.seed, step, group))
        windows = sampler.sample(self._recipe.group_size, generator)
        return replace(windows, with_rollout=with_rollout)


class Posttraining(Training[Windows | PixelWindows]):
    """Train the predictor of a world model; see `PosttrainConfig`.

    Args:
        recipe: The recipe.
        encoder: The frozen encoder, kept with the model; on the device that frames are encoded on.
        data: Episodes of tokens, or of frames.
        device: Where the predictor will be trained.
        initial: The predictor to start from; drawn at random by default.

    Raises:
        ConfigurationError: Recipe, encoder, data and predictor do not belong together.
        DataError: No window fits.
    """

    network: PosttrainNetwork
    title: ClassVar[str] = "post-training"
    score: ClassVar[str | None] = "selection"

    def __init__(
        self,
        recipe: PosttrainConfig,
        encoder: FrameEncoder,
        data: Episodes,
        device: torch.device,
        initial: ACPredictor | None = None,
    ) -> None:
        self._recipe = recipe
        self._encoder = encoder
        self._device = device
        self._config = recipe.world_model(encoder.network.config)
        check_strides(recipe.data.strides, data.row_period_s, recipe.control_period_s)
        learned, held_out = split_episodes(data.episodes, recipe.data.held_out)
        self.source = WindowSource(data, learned, recipe)
        self.network = PosttrainNetwork(
            self._predictor(data, learned, initial), recipe.loss, encoder
        )
        self._watch = PlanningWatch()
        self._score: PlanningScore | None = None
        if recipe.run.validate_every:
            self._validation = WindowSampler(data, held_out, recipe.windows(rollout=True))
            self._judge = self._make_judge(data, held_out)

    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002  always the same windows
        """Measure the loss on held-out windows, and plan held-out segments.

        `selection`, by which the best model is chosen, is the planned distance [m], or the loss where
        nothing is planned.
        """
        size, wanted = self._recipe.group_size, self._recipe.validation.windows
        losses = [self._measure(group) for group in range(-(-wanted // size))]
        values = {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}
        self._score = None
        if self._judge is not None:
            self._score = self._judge.judge(self._imagine)
            values.update(self._score.numbers())
        values["selection"] = self._score.distance_m if self._score else values["loss"]
        return values

    def warnings(self, row: Mapping[str, float]) -> list[str]:
        """Warn when planning gets worse while the loss improves."""
        if self._score is None or "selection" not in row:
            return []
        warning = self._watch.update(row["loss"], self._score)
        return [] if warning is None else [warning]

    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the world model: the encoder, and the predictor with its low-rank changes merged."""
        start = "predictor."
        weights = {name.removeprefix(start): value for name, value in state.items()}
        predictor = ACPredictor(self._recipe.predictor)
        predictor.load_state_dict(merge_lora(weights, self._recipe.lora))
        model = WorldModel(self._config, self._encoder.network, predictor)
        save_world_model(model, directory, metadata, dtype=STORED_TYPE)

    def _predictor(
        self, data: Episodes, learned: Sequence[str], initial: ACPredictor | None
    ) -> ACPredictor:
        """Return the predictor as it is before the first update."""
        recipe = self._recipe
        if initial is None:
            if recipe.lora is not None:
                raise ConfigurationError(
                    "lora changes a trained predictor a little; name one with start_from"
                )
            torch.manual_seed(recipe.seed)
            predictor = ACPredictor(recipe.predictor)
            if recipe.action_scale_m is not None:
                states = np.concatenate([data.states(n) for n in learned[:_STATE_EPISODES]])
                scale_inputs(predictor, torch.from_numpy(states).float(), recipe.action_scale_m)
        elif initial.config != recipe.predictor:
            changed = [k for k, v in recipe.predictor if getattr(initial.config, k) != v]
            raise ConfigurationError(
                f"the predictor to start from differs from the recipe's in {', '.join(changed)}; "
                "write its values into the recipe"
            )
        else:
            predictor = initial.float().requires_grad_(requires_grad=True)
        if recipe.lora is not None:
            add_lora(predictor, recipe.lora)
        return predictor

    def _make_judge(self, data: Episodes, held_out: Sequence[str]) -> PlanningJudge | None:
        recipe, how = self._recipe, self._recipe.validation
        if not how.segments:
            return None
        settings = WindowSettings(
            frames=how.horizon + 1,
            strides=(_planning_stride(recipe, data),) * 2,
            views=recipe.data.views,
            max_step_m=self._recipe.max_step_m if recipe.data.within_box else None,
        )
        sampler = WindowSampler(data, held_out, settings)
        search = SearchSettings(how.candidates, how.rounds, self._config.max_action)
        drawn = [sampler.sample(1, _fixed(recipe, number)) for number in range(how.segments)]
        encoded = [self.network.encoded(w.to(self._device)).to(torch.device("cpu")) for w in drawn]
        return PlanningJudge(encoded, search)

    def _imagine(self, first: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        question = Imagination(first, state, actions).to(self._device)
        with self._autocast():
            tokens: Tensor = self.network(question)[0]
        return tokens

    def _measure(self, group: int) -> dict[str, float]:
        """Return the loss of held-out windows, and how far frames are from the one before."""
        drawn = self._validation.sample(self._recipe.group_size, _fixed(self._recipe, group))
        windows = self.network.encoded(drawn.to(self._device))
        with self._autocast():
            loss, values = self.network(windows)
        still = distance(windows.tokens[:, :-1], windows.tokens[:, 1:], self._recipe.loss.exponent)
        numbers = {"loss": loss, **values, "no_change": still}
        return {name: float(value) for name, value in numbers.items()}

    def _autocast(self) -> torch.autocast:
        enabled = self._recipe.run.precision == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)


def _planning_stride(recipe: PosttrainConfig, data: Episodes) -> int:
    """Return the rows that one action of the planner spans."""
    low, high = recipe.data.strides
    return min(max(round(recipe.control_period_s / data.row_period_s), low), high)


def _fixed(recipe: PosttrainConfig, number: int) -> torch.Generator:
    """Return a source of randomness that every validation of a run has in common."""
    return torch.Generator().manual_seed(seed_of(recipe.seed, _VALIDATION, number))
