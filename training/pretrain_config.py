"""The recipe of masked pretraining."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from models.config import EncoderConfig, FrozenConfig, MaskPredictorConfig
from training.config import TrainingRecipe
from training.masks import PUBLISHED_MASKS, BlockMask, Mask

SourceKind = Literal["csv", "folder", "webdataset", "episodes"]
"""`csv`: lines of "path label", separated by spaces or `::`. `folder`: all videos and images below it.
`webdataset`: tar shards, as a folder or a pattern. `episodes`: anything `trajectories` reads."""


class SourceConfig(FrozenConfig):
    """One set of videos, and how clips are cut from them."""

    kind: SourceKind
    path: str | None = Field(default=None, description="Where it lies; `--data` replaces it.")
    weight: PositiveFloat = Field(default=1.0, description="Share of the samples, in proportion.")
    frames: PositiveInt = Field(description="Frames of a clip; 1: stills, repeated to a tubelet.")
    fps: PositiveFloat | None = Field(
        default=None, description="Frames per second of a clip; excludes frame_step."
    )
    frame_step: PositiveInt | None = Field(
        default=None, description="Every n-th frame; excludes fps. Without either: every frame."
    )
    step_jitter: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(1.0, 1.0), description="The step is multiplied by a factor drawn from this range."
    )
    views: tuple[str, ...] = Field(
        default=(), description="Cameras of episodes to draw from; empty: all."
    )

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        if self.fps is not None and self.frame_step is not None:
            raise ValueError("give fps or frame_step, not both")
        if self.step_jitter[0] > self.step_jitter[1]:
            raise ValueError(f"step_jitter {self.step_jitter} must rise")
        return self


class AugmentationConfig(FrozenConfig):
    """What is done to a clip, alike in all of its frames; the defaults are published."""

    crop_scale: tuple[PositiveFloat, PositiveFloat] | None = Field(
        default=(0.3, 1.0),
        description="Share of the frame that a random crop covers; None: the centre square.",
    )
    crop_aspect_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.75, 1.35), description="Width / height of a random crop."
    )
    flip: bool = Field(default=True, description="Mirror half of the clips.")
    random_augment: NonNegativeInt = Field(
        default=0, description="Magnitude of torchvision's RandAugment, 0 to 30; 0: none."
    )
    erase: float = Field(
        default=0.0, ge=0, le=1, description="Share of the clips that lose a rectangle to noise."
    )


class ContextLoss(FrozenConfig):
    """V-JEPA 2.1's loss on visible tokens, weaker far from what is hidden (arXiv 2603.14482)."""

    weight: PositiveFloat = 0.5
    warmup_start: NonNegativeInt = Field(default=0, description="Update from which it grows.")
    warmup_end: NonNegativeInt = Field(default=0, description="Update at which it has its weight.")
    by_distance: bool = Field(
        default=True, description="Divide by the root of the distance to the nearest hidden token."
    )


class Stage(FrozenConfig):
    """Some updates at another resolution or clip length."""

    steps: PositiveInt = Field(description="Updates of this stage.")
    img_size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="Height and width [px]; None: the encoder's."
    )
    frames: PositiveInt | None = Field(
        default=None, description="Frames of clips (not of stills); None: the sources'."
    )
    micro_batch_size: PositiveInt | None = Field(
        default=None, description="Samples of a forward pass; None: the recipe's."
    )


class StartFrom(FrozenConfig):
    """Weights to begin with."""

    path: str = Field(description="A run folder, a checkpoint of one, or an encoder checkpoint.")
    optimiser: bool = Field(
        default=False,
        description="Take the optimiser's state as well; runs and checkpoints have it.",
    )


class PretrainConfig(TrainingRecipe):
    """V-JEPA masked pretraining (arXiv 2506.09985, section 2)."""

    encoder: EncoderConfig
    predictor: MaskPredictorConfig
    data: dict[str, SourceConfig] = Field(min_length=1, description="Sources by name.")
    augmentation: AugmentationConfig = AugmentationConfig()
    max_retries: NonNegativeInt = Field(
        default=10, description="Other clips that are tried in place of one that cannot be read."
    )
    masks: tuple[Mask, ...] = Field(default=PUBLISHED_MASKS, min_length=1)
    placeholder: Literal["frame_count", "mask"] = Field(
        default="frame_count",
        description="What chooses among the predictor's placeholders: the number of frames of the "
        "clip (published), or the mask.",
    )
    loss_exponent: PositiveFloat = Field(default=1.0, description="1: L1, as published.")
    context_loss: ContextLoss | None = None
    targets: Literal["last", "levels"] = Field(
        default="last", description="Predict the last block's tokens, or those of all norm_layers."
    )
    momentum: tuple[float, float] = Field(
        default=(0.99925, 0.99925),
        description="Share of the averaged encoder that an update keeps, first and last.",
    )
    momentum_over_steps: PositiveInt | None = Field(
        default=None, description="Updates that momentum spans; None: those of the run."
    )
    stages: tuple[Stage, ...] = Field(
        default=(), description="One after the other; the last one lasts to the end."
    )
    start_from: StartFrom | None = None

    def stage(self, step: int) -> Stage:
        """Return the stage that update `step` (from 0) belongs to."""
        ends = accumulate(stage.steps for stage in self.stages)
        passed = [stage for stage, end in zip(self.stages, ends, strict=True) if step < end]
        if passed:
            return passed[0]
        return self.stages[-1] if self.stages else Stage(steps=max(1, self.steps))

    def img_size(self, step: int) -> tuple[int, int]:
        """Return height and width of the frames of update `step` [px]."""
        return self.stage(step).img_size or self.encoder.img_size

    def frames_of(self, source: SourceConfig, step: int) -> int:
        """Return the frames of a clip of a source in update `step`."""
        return source.frames if source.frames == 1 else self.stage(step).frames or source.frames

    def encoded_frames_of(self, source: SourceConfig, step: int) -> int:
        """Return the frames that the encoder gets of a clip of a source in update `step`."""
        frames = self.frames_of(source, step)
        return self.encoder.frames_per_image if frames == 1 else frames

    def group_size_at(self, step: int) -> int:
        """Return the samples of a forward pass in update `step`."""
        return self.stage(step).micro_batch_size or self.group_size

    def groups(self, step: int) -> int:
        """Return the number of groups in the batch of update `step` (from 0)."""
        return self.batch_size // self.group_size_at(step)

    @model_validator(mode="after")
    def _check_networks(self) -> Self:
        levels = len(self.encoder.norm_layers or ()) if self.targets == "levels" else 1
        if not levels:
            raise ValueError("targets 'levels' needs an encoder with norm_layers")
        expected = levels * self.encoder.embed_dim
        if self.predictor.embed_dim != expected:
            raise ValueError(
                f"predictor.embed_dim is {self.predictor.embed_dim}; the encoder's tokens have "
                f"{expected} channels"
            )
        if self.encoder.rope != self.predictor.rope:
            raise ValueError(
                f"encoder.rope is {self.encoder.rope!r}, predictor.rope {self.predictor.rope!r}; "
                "flavours do not mix"
            )
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        tubelet, patch = self.encoder.tubelet_size, self.encoder.patch_size
        timed = any(not isinstance(mask, BlockMask) or mask.causal for mask in self.masks)
        for stage in self.stages or (self.stage(0),):
            size = stage.img_size or self.encoder.img_size
            if any(side % patch for side in size):
                raise ValueError(f"patches of {patch} px do not divide an img_size of {size}")
            if self.batch_size % (stage.micro_batch_size or self.group_size):
                raise ValueError(
                    f"micro_batch_size {stage.micro_batch_size} does not divide {self.batch_size}"
                )
            for name, source in self.data.items():
                frames = source.frames if source.frames == 1 else stage.frames or source.frames
                if frames > 1 and frames % tubelet:
                    raise ValueError(f"data.{name}: {frames} frames are no tubelets of {tubelet}")
                if timed and frames < 2 * tubelet:
                    raise ValueError(
                        f"data.{name}: masks over time need clips of {2 * tubelet} frames or more, "
                        f"not {frames}"
                    )
        return self
