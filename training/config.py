"""Training recipes as validated YAML; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.config import ACPredictorConfig, EncoderConfig, MaskPredictorConfig
from training.errors import ConfigurationError


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OptimiserConfig(_Recipe):
    """AdamW with linear warm-up and cosine decay."""

    steps: int = Field(ge=0, description="Updates; 0 keeps the initial weights (a baseline).")
    batch_size: int = Field(ge=1, description="Samples in an update.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    final_learning_rate: float = Field(default=0.0, ge=0, description="Rate at the last step.")
    warmup_steps: int = Field(ge=1, description="Updates of linear warm-up.")
    weight_decay: float = Field(ge=0, description="AdamW decay, not applied to biases and norms.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest gradient norm.")


class PretrainConfig(_Recipe):
    """V-JEPA masked pretraining of an encoder on clips and on single frames, in turns."""

    seed: int = 0
    encoder: EncoderConfig
    predictor: MaskPredictorConfig
    clip_frames: int = Field(ge=2, description="Frames of a clip; batches alternate with stills.")
    momentum: tuple[float, float] = Field(description="EMA momentum at the first and last step.")
    optimiser: OptimiserConfig


class PosttrainConfig(_Recipe):
    """Action-conditioned post-training on frozen tokens."""

    seed: int = 0
    name: str = Field(description="Name of the resulting world model.")
    predictor: ACPredictorConfig
    control_period_s: float = Field(gt=0, description="Real time of one action [s].")
    max_step_m: float = Field(gt=0, description="Largest action per axis [m].")
    max_stride: int = Field(ge=1, description="A pair of frames is 1..max_stride rows apart.")
    rollout_every: int = Field(ge=1, description="Every n-th update adds a two-step rollout.")
    action_scale_m: float = Field(gt=0, description="Typical action [m]; scales the input layer.")
    optimiser: OptimiserConfig


Recipe = TypeVar("Recipe", bound=_Recipe)


def load_recipe(path: Path, kind: type[Recipe]) -> Recipe:
    """Read a YAML recipe.

    Raises:
        ConfigurationError: The file is missing, not YAML, or has unknown or invalid keys.
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError as error:
        raise ConfigurationError(f"no recipe at {path}; see configs/training/") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
