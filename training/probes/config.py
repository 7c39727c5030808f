"""The recipe of a frozen evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from models.config import AttentiveProbeConfig, FrozenConfig, MaskPredictorConfig
from training.config import OptimiserConfig, TrainingRecipe
from training.pretrain_config import AugmentationConfig
from training.probes.anticipation import Layout, Protocol
from training.probes.motion import MotionConfig
from training.probes.samples import Classes, FilesConfig
from training.probes.views import ClipConfig
from training.schedules import LearningRate, WarmupCosine, WeightDecay

PUBLISHED_AUGMENTATION = AugmentationConfig(
    crop_scale=(0.08, 1.0),
    crop_aspect_ratio=(0.75, 4 / 3),
    flip=False,
    random_augment=7,
    erase=0.25,
)


class HeadOptimiser(OptimiserConfig):
    """What heads have in common. Schedules are in shares of the values that grids name."""

    learning_rate: LearningRate = WarmupCosine(peak=1.0)
    weight_decay: WeightDecay = WeightDecay(start=1.0, final=1.0)


class AttentiveProbe(FrozenConfig):
    """A pooler that attends to all tokens, and a linear layer."""

    kind: Literal["attentive"] = "attentive"
    depth: PositiveInt = Field(default=4, description="Blocks; the last one is cross attention.")
    num_heads: PositiveInt = Field(default=16, description="Attention heads.")
    mlp_ratio: PositiveFloat = 4.0

    def network(self, embed_dim: int) -> AttentiveProbeConfig:
        """Return the pooler for tokens of some width."""
        return AttentiveProbeConfig(
            embed_dim=embed_dim,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
        )


class LinearProbe(FrozenConfig):
    """A linear layer on the layer-normed mean of the tokens."""

    kind: Literal["linear"] = "linear"


class NeighbourProbe(FrozenConfig):
    """Votes of the nearest training videos; nothing is learned."""

    kind: Literal["knn"] = "knn"
    neighbours: tuple[PositiveInt, ...] = Field(
        default=(10, 20, 100, 200), min_length=1, description="How many vote; each is tried."
    )
    temperature: PositiveFloat = Field(
        default=0.07, description="A neighbour's vote is exp(cosine similarity / temperature)."
    )


SamplesConfig = Annotated[FilesConfig | MotionConfig, Field(discriminator="kind")]
Probe = Annotated[AttentiveProbe | LinearProbe | NeighbourProbe, Field(discriminator="kind")]


class HeadGrid(FrozenConfig):
    """Heads for every rate with every decay."""

    learning_rates: tuple[PositiveFloat, ...] = Field(min_length=1)
    weight_decays: tuple[NonNegativeFloat, ...] = Field(min_length=1)
    learning_rate: LearningRate | None = Field(
        default=None,
        description="Schedule, in shares of a head's rate; None: `optimiser.learning_rate`.",
    )
    weight_decay: WeightDecay | None = Field(
        default=None,
        description="Schedule, in shares of a head's decay; None: `optimiser.weight_decay`.",
    )


@dataclass(frozen=True)
class Head:
    """One head of all grids: its rate and decay, and their schedules in shares of them."""

    rate: float
    decay: float
    rate_share: LearningRate
    decay_share: WeightDecay

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"rate {self.rate:g}, decay {self.decay:g}"


class _DataConfig(FrozenConfig):
    """What all tasks have in common."""

    augmentation: AugmentationConfig | None = Field(
        default=PUBLISHED_AUGMENTATION,
        description="What training does to clips; None: it sees them as validation does.",
    )
    draws: PositiveInt | None = Field(
        default=None,
        description="Different augmentations of a video, taken in turn; None: new ones in every "
        "epoch, as published. A cache holds this many.",
    )
    cache_path: Path | None = Field(
        default=None,
        description="Folder that keeps the encoder's tokens; every clip is encoded once.",
    )
    max_unreadable: float = Field(
        default=0.1, ge=0, le=1, description="Share of the samples that may be unreadable."
    )
    max_retries: NonNegativeInt = Field(
        default=10, description="Other samples that training tries in place of an unreadable one."
    )

    @property
    def versions(self) -> int | None:
        """How often a training sample differs: None for always."""
        return 1 if self.augmentation is None else self.draws

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        if self.cache_path is not None and self.versions is None:
            raise ValueError(
                "a cache cannot hold new augmentations in every epoch: set draws to how many "
                "versions of a video it shall hold, or augmentation to null"
            )
        return self


class VideosConfig(_DataConfig):
    """Videos or images with one label each."""

    task: Literal["classification"] = "classification"
    train: SamplesConfig
    validation: SamplesConfig
    classes: Classes | None = Field(
        default=None, description="Their number or names; None: those of the training samples."
    )


class AnnotationsConfig(FrozenConfig):
    """Annotations of one split (`EPIC_100_train.csv`)."""

    path: str | None = None


class ActionsConfig(_DataConfig):
    """Actions to be anticipated (EPIC-KITCHENS-100)."""

    task: Literal["anticipation"]
    train: AnnotationsConfig = AnnotationsConfig()
    validation: AnnotationsConfig = AnnotationsConfig()
    videos_path: str | None = Field(default=None, description="Folder of the videos.")
    layout: Layout = "nested"
    protocol: Protocol = Field(
        description="`standard`: clips end before the action begins. `reference`: before it ends, as "
        "in the published code."
    )
    ahead_s: PositiveFloat = Field(default=1.0, description="Anticipation time of validation [s].")
    train_ahead_s: tuple[NonNegativeFloat, NonNegativeFloat] = (0.25, 1.75)
    train_point: tuple[NonNegativeFloat, NonNegativeFloat] = Field(
        default=(0.0, 0.25),
        description="`reference` only: where in an action training counts from, 0 is its end.",
    )


class ProbeConfig(TrainingRecipe):
    """Probes on a frozen encoder (arXiv 2506.09985, section 4)."""

    encoder_from: str | None = Field(default=None, description="Anything that `models` opens.")
    out_layers: tuple[NonNegativeInt, ...] | None = Field(
        default=None, description="Blocks whose tokens are read together; None: the last one's."
    )
    predictor: MaskPredictorConfig | None = Field(
        default=None,
        description="The encoder's predictor, for anticipation; None: as its checkpoint says, or as "
        "published.",
    )
    probe: Probe = AttentiveProbe()
    probe_from: str | None = Field(
        default=None, description="Trained probes to evaluate, or to start from."
    )
    heads: tuple[HeadGrid, ...] = Field(default=(), description="Grids; knn has none.")
    clips: ClipConfig = ClipConfig()
    data: Annotated[VideosConfig | ActionsConfig, Field(discriminator="task")]
    optimiser: HeadOptimiser = HeadOptimiser()

    def all_heads(self) -> tuple[Head, ...]:
        """Return the heads of all grids, rates outermost."""
        return tuple(self._list_heads())

    def _list_heads(self) -> Iterator[Head]:
        for grid in self.heads:
            rate_share = grid.learning_rate or self.optimiser.learning_rate
            decay_share = grid.weight_decay or self.optimiser.weight_decay
            for rate in grid.learning_rates:
                for decay in grid.weight_decays:
                    yield Head(rate, decay, rate_share, decay_share)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        learns = not isinstance(self.probe, NeighbourProbe)
        if self.steps and not self.heads:
            raise ValueError("heads is empty; name at least one learning rate and weight decay")
        if learns and not self.steps and self.probe_from is None:
            raise ValueError("steps is 0 and there is no probe_from: nothing to evaluate")
        if not learns and (self.steps or self.heads or self.probe_from is not None):
            raise ValueError(
                "probe.kind 'knn' learns nothing: steps is 0, without heads or probe_from"
            )
        if self.steps and not self.run.validate_every:
            raise ValueError("run.validate_every is 0; the best head is chosen by validation")
        if self.data.task == "anticipation" and self.probe.kind != "attentive":
            raise ValueError(f"anticipation needs attentive probes, not {self.probe.kind!r}")
        return self

    @model_validator(mode="after")
    def _check_run(self) -> Self:
        if self.run.strategy == "fsdp":
            raise ValueError("run.strategy fsdp: heads are small and not sharded; use ddp")
        if self.optimiser.kind != "adamw" or self.optimiser.clip_norm is not None:
            raise ValueError("heads learn by themselves: optimiser.kind is adamw, clip_norm null")
        if self.data.task == "anticipation":
            if self.clips.fps is None or self.clips.segments * self.clips.views > 1:
                raise ValueError("anticipation needs clips.fps, one segment and one view")
            if self.clips.resolution is not None:
                raise ValueError("anticipation uses the encoder's resolution; leave it out")
        return self
