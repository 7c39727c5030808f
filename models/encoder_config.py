"""What an encoder looks like: our own vision transformers, and frozen ones from timm.

Imported through `models.config`, which holds every other configuration.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

Size = tuple[PositiveInt, PositiveInt]

RopeFlavour = Literal["vjepa2", "vjepa2_1"]
"""`vjepa2`: tiled angles, positions counted in patches. `vjepa2_1`: true rotations, rows and columns
scaled to a 16 x 16 grid. Weights that learned with one mean nothing with the other."""

AttentionKind = Literal["joint", "factorised"]
"""`joint`: all tokens see each other, as published. `factorised`: even blocks see their frame, odd
blocks their place over time."""


class FrozenConfig(BaseModel):
    """Base of all configurations: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformerConfig(FrozenConfig):
    """What all networks have in common: a stack of pre-norm blocks."""

    depth: PositiveInt = Field(description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(description="Attention heads; divides the width.")
    mlp_ratio: float = Field(default=4.0, gt=0, description="Hidden width of the MLP / width.")

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        raise NotImplementedError

    @property
    def norm_eps(self) -> float:
        """What layer norms add to the variance."""
        return 1e-6

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide the width {self.width}")
        if self.head_dim < 6:
            raise ValueError(
                f"{self.head_dim} channels per head are too few for three rotary axes of two "
                "channels; use fewer heads"
            )
        return self


class PatchGrid(FrozenConfig):
    """Frames of one size, cut into square patches."""

    img_size: Size = Field(default=(256, 256), description="Frame height and width [px].")
    patch_size: PositiveInt = Field(default=16, description="Side of a square patch [px].")
    embed_dim: PositiveInt = Field(description="Channels of a token, D.")

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame of `img_size`."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    @property
    def tokens_per_frame(self) -> int:
        """Patches in a frame of `img_size`, N."""
        rows, columns = self.grid_size
        return rows * columns

    @model_validator(mode="after")
    def _check_patches(self) -> Self:
        if any(side % self.patch_size for side in self.img_size):
            raise ValueError(f"patch_size {self.patch_size} does not divide {self.img_size}")
        return self


class EncoderConfig(TransformerConfig, PatchGrid):
    """A vision transformer over space-time patches (arXiv 2506.09985, section 2.1)."""

    num_frames: PositiveInt = Field(default=64, description="Frames of the clips it learned from.")
    tubelet_size: PositiveInt = Field(default=2, description="Frames that make one token.")
    rope: RopeFlavour | None = Field(
        default="vjepa2",
        description="Rotary embedding; `vjepa2` is the published one, with its tiled angles. "
        "None: a fixed sine-cosine table is added to the patches instead.",
    )
    attention: AttentionKind = Field(default="joint", description="Who attends to whom.")
    norm_layers: tuple[NonNegativeInt, ...] | None = Field(
        default=None,
        description="Blocks whose output has a norm of its own, the last block among them "
        "(V-JEPA 2.1). None: one norm for the last block and every other level.",
    )
    separate_images: bool = Field(
        default=False,
        description="Embed single frames with patches of their own, one frame deep, and mark "
        "images and videos by learned vectors (V-JEPA 2.1).",
    )

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        return self.embed_dim

    @property
    def frames_per_image(self) -> int:
        """How often a single frame is repeated to be encoded."""
        return 1 if self.separate_images else self.tubelet_size

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        if self.num_frames % self.tubelet_size:
            raise ValueError(
                f"tubelet_size {self.tubelet_size} does not divide {self.num_frames} frames"
            )
        return self

    @model_validator(mode="after")
    def _check_positions(self) -> Self:
        if self.rope is None and self.embed_dim % 8:
            raise ValueError(
                f"a sine-cosine table needs embed_dim divisible by 8, got {self.embed_dim}"
            )
        return self

    @model_validator(mode="after")
    def _check_norm_layers(self) -> Self:
        if self.norm_layers is None:
            return self
        layers = list(self.norm_layers)
        if layers != sorted(set(layers)) or layers[-1:] != [self.depth - 1]:
            raise ValueError(
                f"norm_layers {layers} must rise and end with the last block, {self.depth - 1}"
            )
        if self.rope != "vjepa2_1":
            raise ValueError(
                f"hierarchical norms belong to V-JEPA 2.1, whose rope is 'vjepa2_1', not "
                f"{self.rope!r}"
            )
        return self


class TimmEncoderConfig(PatchGrid):
    """A frozen image encoder that timm builds, such as DINOv2 or DINOv3."""

    timm_model: str = Field(min_length=1, description="timm's name of the architecture.")

    @property
    def tubelet_size(self) -> int:
        """Frames that make one token: images are encoded one by one."""
        return 1

    @property
    def frames_per_image(self) -> int:
        """How often a single frame is repeated to be encoded."""
        return 1

    @property
    def rope(self) -> None:
        """Rotary flavour of ours: none; what timm's network uses is its own affair."""
        return
