"""What a network looks like: frozen, validated configurations and the published presets.

Every configuration travels with its weights. An unknown key is an error, because a misspelt option
that silently means "default" is the most expensive kind of bug.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from typing_extensions import Self

Size = tuple[PositiveInt, PositiveInt]

POSE_DIM: Final = 7
"""Numbers in a state and in an action: x, y, z [m], roll, pitch, yaw [rad], gripper closedness."""

GIANT_MLP_RATIO = 48 / 11  # hidden width 6144 at width 1408


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformerConfig(_Config):
    """What the encoder and both predictors have in common: a stack of pre-norm blocks."""

    depth: PositiveInt = Field(description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(description="Attention heads; divides the width.")
    mlp_ratio: float = Field(default=4.0, gt=0, description="Hidden width of the MLP / width.")
    rope: Literal["vjepa2"] = Field(
        default="vjepa2",
        description="Rotary embedding; `vjepa2` is the published one, with its tiled angles.",
    )

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        raise NotImplementedError

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


class EncoderConfig(TransformerConfig):
    """A vision transformer over space-time patches (arXiv 2506.09985, section 2.1)."""

    img_size: Size = Field(default=(256, 256), description="Frame height and width [px].")
    patch_size: PositiveInt = Field(default=16, description="Side of a square patch [px].")
    num_frames: PositiveInt = Field(default=64, description="Frames of the clips it learned from.")
    tubelet_size: PositiveInt = Field(default=2, description="Frames that make one token.")
    embed_dim: PositiveInt = Field(description="Channels of a token, D.")

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        return self.embed_dim

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
    def _check_divisible(self) -> Self:
        if any(side % self.patch_size for side in self.img_size):
            raise ValueError(f"patch_size {self.patch_size} does not divide {self.img_size}")
        if self.num_frames % self.tubelet_size:
            raise ValueError(
                f"tubelet_size {self.tubelet_size} does not divide {self.num_frames} frames"
            )
        return self


class PredictorConfig(TransformerConfig):
    """What both predictors share: narrower blocks between two linear layers."""

    grid_size: Size = Field(default=(16, 16), description="Rows and columns of patches.")
    embed_dim: PositiveInt = Field(description="Channels of a token that comes in and goes out, D.")
    predictor_embed_dim: PositiveInt = Field(description="Channels of a token inside the blocks.")

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        return self.predictor_embed_dim

    @property
    def tokens_per_frame(self) -> int:
        """Patches in a frame, N."""
        rows, columns = self.grid_size
        return rows * columns


class MaskPredictorConfig(PredictorConfig):
    """The pretraining predictor of masked tokens (arXiv 2506.09985, section 2.1)."""

    predictor_embed_dim: PositiveInt = Field(default=384, description="Channels inside the blocks.")
    depth: PositiveInt = Field(default=12, description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(default=12, description="Attention heads; divides the width.")
    num_mask_tokens: PositiveInt = Field(
        default=10, description="Learned placeholders for hidden tokens, one per kind of mask."
    )


class ACPredictorConfig(PredictorConfig):
    """The action-conditioned predictor (arXiv 2506.09985, section 3.1)."""

    predictor_embed_dim: PositiveInt = Field(
        default=1024, description="Channels inside the blocks."
    )
    depth: PositiveInt = Field(default=24, description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(default=16, description="Attention heads; divides the width.")
    action_dim: Literal[7] = Field(default=POSE_DIM, description="Numbers in actions and states.")
    use_extrinsics: bool = Field(
        default=False, description="Condition every frame on its camera's pose as well."
    )
    residual: bool = Field(
        default=False,
        description="Predict the change of the tokens (starting from none) instead of the tokens.",
    )


class WorldModelConfig(_Config):
    """A frozen encoder, an action-conditioned predictor, and the robot motion they were made for."""

    name: str = Field(min_length=1, description="What the server and logs call the model.")
    encoder: EncoderConfig
    predictor: ACPredictorConfig
    control_period_s: float = Field(gt=0, description="Real time that one action spans [s].")
    max_step_m: float = Field(gt=0, description="Largest translation per axis and action [m].")
    max_rotation_rad: float = Field(
        default=0.0,
        ge=0,
        description="Largest rotation per axis and action [rad]; 0: none planned.",
    )
    max_gripper: float = Field(
        default=1.0, ge=0, le=1, description="Largest change of closedness per action."
    )
    frame_geometry: Literal["centre_square"] = Field(
        default="centre_square",
        description="How a camera frame becomes `img_size`: centre square crop, then resize.",
    )

    @property
    def max_action(self) -> tuple[float, ...]:
        """Largest magnitude of every action axis, `[7]` [m, rad, closedness]; 0 is not searched."""
        return (*(self.max_step_m,) * 3, *(self.max_rotation_rad,) * 3, self.max_gripper)

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        if self.encoder.embed_dim != self.predictor.embed_dim:
            raise ValueError(
                f"the encoder's tokens have {self.encoder.embed_dim} channels, the predictor "
                f"takes {self.predictor.embed_dim}"
            )
        if self.encoder.grid_size != self.predictor.grid_size:
            raise ValueError(
                f"the encoder makes {self.encoder.grid_size} patches, the predictor takes "
                f"{self.predictor.grid_size}"
            )
        if self.encoder.img_size[0] != self.encoder.img_size[1]:
            raise ValueError(
                f"frame_geometry centre_square needs a square img_size, got {self.encoder.img_size}"
            )
        return self


def vit_large() -> EncoderConfig:
    """ViT-L, 300 M parameters, as published (`vitl.pt`)."""
    return EncoderConfig(embed_dim=1024, depth=24, num_heads=16)


def vit_huge() -> EncoderConfig:
    """ViT-H, 630 M parameters, as published (`vith.pt`)."""
    return EncoderConfig(embed_dim=1280, depth=32, num_heads=16)


def vit_giant_xformers(img_size: tuple[int, int] = (256, 256)) -> EncoderConfig:
    """ViT-g, 1 B parameters, as published (`vitg.pt`, and at 384 px `vitg-384.pt`).

    There is also a `vit_giant` with 16 heads of 88 channels in its code; no weights are published.
    """
    return EncoderConfig(
        img_size=img_size, embed_dim=1408, depth=40, num_heads=22, mlp_ratio=GIANT_MLP_RATIO
    )


def vjepa2_ac_vit_giant() -> WorldModelConfig:
    """V-JEPA 2-AC as published (`vjepa2-ac-vitg.pt`): ViT-g and a 24-block predictor.

    The control period is the physical time of its training steps: the recordings play at four
    times the speed at which they were acquired, so "4 fps" are about one second apart.
    """
    return WorldModelConfig(
        name="vjepa2-ac-vitg",
        encoder=vit_giant_xformers(),
        predictor=ACPredictorConfig(embed_dim=1408),
        control_period_s=1.0,
        max_step_m=0.075,
        max_gripper=0.75,
    )


def tiny() -> WorldModelConfig:
    """A model of a few thousand parameters for tests and smoke runs; its weights mean nothing."""
    return WorldModelConfig(
        name="tiny",
        encoder=EncoderConfig(
            img_size=(32, 32), patch_size=8, num_frames=4, embed_dim=48, depth=2, num_heads=3
        ),
        predictor=ACPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=32, depth=2, num_heads=2
        ),
        control_period_s=1.0,
        max_step_m=0.15,
    )
