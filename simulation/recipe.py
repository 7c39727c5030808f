"""What determines a training data set: its recipe, written in YAML and kept beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulation.errors import InvalidRecipeError

RECIPE_VERSION: Literal[4] = 4  # raised whenever the same recipe would give other data

Motion = Literal[
    "explore", "approach", "grasp", "pick_and_place", "push", "fumble", "drop", "chatter"
]
_SHARES: dict[Motion, float] = {
    "explore": 40,
    "approach": 10,
    "grasp": 16,
    "pick_and_place": 16,
    "push": 7,
    "fumble": 5,
    "drop": 3,
    "chatter": 3,
}


class Recipe(BaseModel):
    """A data set before it is simulated; the number of processes does not belong to it.

    Attributes:
        episodes: How many.
        seed: Of everything that is drawn.
        control_period_s: Time between two frames, and of one action.
        max_step_m: Largest displacement that is asked for, per axis and control period.
        episode_length: Frames of an episode.
        motions: Weight of each kind of motion; see `simulation.episodes`.
        noise_levels_m: Deviations of the noise on a script's targets; one is drawn per episode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    episodes: int = Field(default=2000, ge=1, le=10_000_000)
    seed: int = Field(default=0, ge=0)
    control_period_s: float = Field(default=1.0, gt=0.0, le=5.0)
    max_step_m: float = Field(default=0.15, gt=0.0, le=0.5)
    episode_length: int = Field(default=16, ge=2, le=1000)
    motions: dict[Motion, Annotated[float, Field(gt=0.0)]] = Field(default=_SHARES, min_length=1)
    noise_levels_m: tuple[float, ...] = Field(default=(0.0, 0.004, 0.01, 0.025), min_length=1)
    version: Literal[4] = RECIPE_VERSION


def load_recipe(path: Path | None, changes: Mapping[str, Any]) -> Recipe:
    """Read a recipe from a YAML file, or take the default one; `changes` replace its values.

    Raises:
        InvalidRecipeError: The file cannot be read, or something is said that no recipe says.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
        return Recipe.model_validate({**content, **changes})
    except (OSError, yaml.YAMLError, TypeError, ValidationError) as error:
        raise InvalidRecipeError(
            f"{path or 'the command line'} gives no recipe of training data: {error}; "
            "configs/simulation has an example"
        ) from error
