"""A session's sub-goals: images as they were sent, what counts in them, and when the next one's turn comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Number = Annotated[float, Field(allow_inf_nan=False, ge=-10, le=10)]
MAX_IMAGES_PER_GOAL = 8


class GoalRules(BaseModel):
    """What counts in a sub-goal, and when it is done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", max_length=100, description="For people and records.")
    max_steps: int | None = Field(
        default=None, ge=1, le=100_000, description="Plans after which the next one's turn comes."
    )
    energy_threshold: float | None = Field(
        default=None, ge=0, le=1e6, description="Energy at or below which it counts as reached."
    )
    region: tuple[_Fraction, _Fraction, _Fraction, _Fraction] | None = Field(
        default=None,
        description="Region of interest: left, top, right, bottom as fractions of the goal image.",
        examples=[[0.25, 0.25, 0.75, 0.75]],
    )
    weights: list[Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        default=None, max_length=MAX_IMAGES_PER_GOAL, description="One per image of the goal."
    )
    state: Annotated[list[_Number], Field(min_length=7, max_length=7)] | None = Field(
        default=None, description="Pose in the goal image, for `energy.proprio_weight`."
    )

    @model_validator(mode="after")
    def _is_a_region(self) -> Self:
        if self.region is not None:
            left, top, right, bottom = self.region
            if left >= right or top >= bottom:
                raise ValueError(f"region {self.region} is empty; send left, top, right, bottom")
        if self.weights is not None and not any(self.weights):
            raise ValueError("weights are all 0; at least one image must count")
        return self


@dataclass(frozen=True, eq=False)
class GoalImage:
    """One image as it was sent; its tokens live in the worker's cache.

    Attributes:
        sha256: Of the decoded pixels and their shape.
        width: Width [px].
        height: Height [px].
        media_type: Of `data`, for example image/png.
        data: The file's bytes.
    """

    sha256: str
    width: int
    height: int
    media_type: str
    data: bytes


@dataclass(frozen=True, eq=False)
class SubGoal:
    """One step of a task: several images may show the same goal.

    Attributes:
        images: At least one.
        rules: What counts, and when it is done.
        mask: Grey image whose bright part is the region of interest, of the shape of the goal images.
    """

    images: tuple[GoalImage, ...]
    rules: GoalRules = field(default_factory=GoalRules)
    mask: GoalImage | None = None

    @property
    def sha256(self) -> str:
        """Name of the goal in records: the digest of its first image."""
        return self.images[0].sha256

    def is_done(self, steps: int, energy_now: float) -> bool:
        """Whether its steps are used up or its energy is reached."""
        rules = self.rules
        is_spent = rules.max_steps is not None and steps >= rules.max_steps
        is_reached = rules.energy_threshold is not None and energy_now <= rules.energy_threshold
        return is_spent or is_reached
