"""The recipe of action-conditioned post-training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    FrameGeometry,
    FrozenConfig,
    TimmEncoderConfig,
    WorldModelConfig,
)
from training.ac_losses import RolloutContext, RolloutStates
from training.config import TrainingRecipe
from training.errors import ConfigurationError
from training.latent_cache import StoredType
from training.windows import Draw, WindowSettings

LoRATarget = Literal["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]


class RobotDataConfig(FrozenConfig):
    """Which windows of which recordings."""

    path: Path | None = Field(
        default=None,
        description="The recordings: whatever `trajectories` reads. Not needed where there is a "
        "finished cache of latents.",
    )
    latents_path: Path | None = Field(
        default=None,
        description="Cache of latents; made first where it is missing. None: frames are encoded in "
        "every update.",
    )
    stored_type: StoredType = Field(default="bfloat16", description="Numbers in the cache.")
    row_period_s: PositiveFloat | None = Field(
        default=None,
        description="Thin recordings out to rows this far apart in real time [s]; windows begin at "
        "any of them. None: as the data say; only the simulator's shards and caches of latents do.",
    )
    strides: tuple[PositiveInt, PositiveInt] = Field(
        default=(1, 1),
        description="Least and largest distance of the frames of a window [rows].",
    )
    views: dict[str, PositiveFloat] = Field(
        default={}, description="Share of every camera by name; empty: all cameras alike."
    )
    draw: Draw = Field(
        default="windows",
        description="`windows`: those of all episodes and strides alike; `episodes`: an episode, then a "
        "window of it (published).",
    )
    within_box: bool = Field(
        default=False,
        description="Leave out windows whose first translation exceeds max_step_m on an axis.",
    )
    held_out: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the episodes kept for validation."
    )
    max_bad: NonNegativeInt = Field(
        default=0,
        description="Unreadable episodes, and views while a cache is made, that are left out before the "
        "run is refused.",
    )

    @model_validator(mode="after")
    def _check_strides(self) -> Self:
        if self.strides[0] > self.strides[1]:
            raise ValueError(f"strides {self.strides} must rise")
        return self


class ACLossConfig(FrozenConfig):
    """Teacher forcing and rollout (arXiv 2506.09985, equations 2-4); the defaults are published."""

    context_frames: PositiveInt = Field(
        default=7, description="True frames that are predicted from, each by all before it."
    )
    rollout_steps: NonNegativeInt = Field(
        default=2, description="Frames predicted from the first one alone; 0: no rollout."
    )
    rollout_weight: PositiveFloat = 1.0
    rollout_every: PositiveInt = Field(
        default=1, description="Every n-th update has a rollout; the others are cheaper."
    )
    states: RolloutStates = Field(
        default="measured",
        description="Poses told to a rollout: measured (published), or predicted from the actions.",
    )
    context: RolloutContext = Field(
        default="own_predictions",
        description="What a rollout sees; the other value repeats a defect of the first published "
        "training code, for comparison only.",
    )
    exponent: PositiveFloat = Field(default=1.0, description="p of the distance mean |.|^p / p.")

    @model_validator(mode="after")
    def _check_rollout(self) -> Self:
        if self.rollout_steps == 1:
            raise ValueError("rollout_steps 1 is teacher forcing; use 0, or 2 and more")
        if self.context != "own_predictions" and self.context_frames < 2:
            raise ValueError(f"context {self.context!r} needs context_frames of 2 or more")
        return self

    def frames(self, *, rollout: bool) -> int:
        """Return the frames of a window, with a rollout or without."""
        return 1 + max(self.context_frames, self.rollout_steps if rollout else 0)


class LoRAConfig(FrozenConfig):
    """Train low-rank changes of the blocks' linear layers, and the layers that take conditions in.

    All other weights stay as they were, without gradients and optimiser state (arXiv 2106.09685).
    """

    rank: PositiveInt = 16
    alpha: PositiveInt = Field(default=32, description="Changes are scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[LoRATarget, ...] = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


class PlanningValidationConfig(FrozenConfig):
    """How the predictor is judged on held-out episodes while it trains."""

    windows: PositiveInt = Field(default=256, description="Windows that the loss is measured on.")
    segments: NonNegativeInt = Field(
        default=32, description="Segments to plan for the action score; 0: no planning."
    )
    horizon: PositiveInt = Field(default=1, description="Actions of a segment.")
    candidates: PositiveInt = Field(default=64, description="Action sequences of a round.")
    rounds: PositiveInt = Field(default=3, description="Rounds of the search.")


class PosttrainConfig(TrainingRecipe):
    """Action-conditioned post-training on the tokens of a frozen encoder."""

    name: str = Field(min_length=1, description="Name of the resulting world model.")
    encoder_from: str | None = Field(
        default=None,
        description="Weights of the frozen encoder: any source that `models` loads, or timm:NAME.",
    )
    start_from: str | None = Field(
        default=None,
        description="World model whose predictor is trained on, and whose encoder is used where "
        "encoder_from is None. None: the predictor starts at random.",
    )
    encoder: EncoderConfig | None = Field(
        default=None,
        description="The encoder it is meant for; another one is refused. None: any that fits.",
    )
    predictor: ACPredictorConfig
    control_period_s: PositiveFloat = Field(description="Real time of one action [s].")
    max_step_m: PositiveFloat = Field(description="Largest translation per axis and action [m].")
    max_rotation_rad: float = Field(
        default=0.0, ge=0, description="Largest rotation per axis and action [rad]; 0: none."
    )
    max_gripper: float = Field(default=1.0, ge=0, le=1, description="Largest change of closedness.")
    frame_geometry: FrameGeometry = "centre_square"
    data: RobotDataConfig = RobotDataConfig()
    loss: ACLossConfig = ACLossConfig()
    action_scale_m: PositiveFloat | None = Field(
        default=None,
        description="Typical translation [m]: the scale of actions and states is folded into the "
        "first layers. None: they start out as published.",
    )
    lora: LoRAConfig | None = None
    validation: PlanningValidationConfig = PlanningValidationConfig()

    @model_validator(mode="after")
    def _check_predictor(self) -> Self:
        if self.predictor.use_extrinsics:
            raise ValueError("use_extrinsics: recordings and planning do not give camera poses yet")
        longest = max(self.loss.context_frames, self.loss.rollout_steps, self.validation.horizon)
        if longest > self.predictor.max_frames:
            raise ValueError(
                f"{longest} frames of context; the predictor takes {self.predictor.max_frames}"
            )
        if self.run.validate_every and not self.data.held_out:
            raise ValueError("run.validate_every needs data.held_out, the share to validate on")
        return self

    def windows(self, *, rollout: bool) -> WindowSettings:
        """Return which windows an update draws, with a rollout or without."""
        data = self.data
        return WindowSettings(
            frames=self.loss.frames(rollout=rollout),
            strides=data.strides,
            views=data.views,
            max_step_m=self.max_step_m if data.within_box else None,
            draw=data.draw,
        )

    def world_model(self, encoder: EncoderConfig | TimmEncoderConfig) -> WorldModelConfig:
        """Return the world model that this recipe makes with an encoder.

        Raises:
            ConfigurationError: They do not belong together.
        """
        if self.encoder is not None and encoder != self.encoder:
            changed = [k for k, v in self.encoder if getattr(encoder, k, None) != v]
            raise ConfigurationError(
                f"the encoder differs from the recipe's in {', '.join(changed)}: "
                + "; ".join(f"{k} is {getattr(encoder, k, None)}" for k in changed)
            )
        try:
            return WorldModelConfig(
                name=self.name,
                encoder=encoder,
                predictor=self.predictor,
                control_period_s=self.control_period_s,
                max_step_m=self.max_step_m,
                max_rotation_rad=self.max_rotation_rad,
                max_gripper=self.max_gripper,
                frame_geometry=self.frame_geometry,
            )
        except ValueError as error:
            raise ConfigurationError(f"encoder and recipe do not fit: {error}") from error
