"""What a network looks like: frozen, validated configurations and the published presets.

Every configuration travels with its weights. An unknown key is an error, because a misspelt option
that silently means "default" is the most expensive kind of bug.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator
from typing_extensions import Self

from models.encoder_config import (
    AttentionKind,
    EncoderConfig,
    FrozenConfig,
    PatchGrid,
    RopeFlavour,
    Size,
    TimmEncoderConfig,
    TransformerConfig,
)

__all__ = [
    "GIANT_MLP_RATIO",
    "POSE_DIM",
    "ACPredictorConfig",
    "AttentionKind",
    "AttentiveProbeConfig",
    "EncoderConfig",
    "FrameGeometry",
    "FrozenConfig",
    "MaskPredictorConfig",
    "PatchGrid",
    "PredictorConfig",
    "RopeFlavour",
    "Size",
    "TimmEncoderConfig",
    "TransformerConfig",
    "WorldModelConfig",
    "tiny",
    "vit_giant_xformers",
    "vit_huge",
    "vit_large",
    "vjepa2_ac_vit_giant",
]

FrameGeometry = Literal["centre_square", "squash_1_35"]
"""How a camera frame becomes `img_size`. `centre_square`: centre square crop, then resize.
`squash_1_35`: crop only what exceeds the aspect ratios 0.75 to 1.35, then resize both sides."""

POSE_DIM: Final = 7
"""Numbers in a state and in an action: x, y, z [m], roll, pitch, yaw [rad], gripper closedness."""

GIANT_MLP_RATIO = 48 / 11  # hidden width 6144 at width 1408


class PredictorConfig(TransformerConfig):
    """What both predictors share: narrower blocks between two linear layers."""

    rope: RopeFlavour = Field(
        default="vjepa2", description="Rotary embedding; `vjepa2` is the published one."
    )
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
    use_state: bool = Field(
        default=True,
        description="Condition every frame on the robot's pose, as published; without it there is "
        "one token less per frame (the layout of jepa-wms).",
    )
    use_extrinsics: bool = Field(
        default=False, description="Condition every frame on its camera's pose as well."
    )
    residual: bool = Field(
        default=False,
        description="Predict the change of the tokens (starting from none) instead of the tokens.",
    )
    max_frames: PositiveInt = Field(
        default=32, description="Longest context it takes [frames]; the published one sees 32."
    )

    @property
    def condition_tokens(self) -> int:
        """Tokens per frame besides its patches: action, state and camera."""
        return 1 + self.use_state + self.use_extrinsics


class AttentiveProbeConfig(TransformerConfig):
    """An attentive pooler over frozen tokens (arXiv 2506.09985, section 4)."""

    embed_dim: PositiveInt = Field(description="Channels of a token, D.")
    depth: PositiveInt = Field(
        default=4, description="Number of blocks; the last one is cross attention of the queries."
    )
    num_heads: PositiveInt = Field(default=16, description="Attention heads; divides the width.")

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        return self.embed_dim

    @property
    def norm_eps(self) -> float:
        """What layer norms add to the variance: torch's default here, not the encoder's."""
        return 1e-5


def _encoder_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "timm" if "timm_model" in value else "vit"
    return "timm" if isinstance(value, TimmEncoderConfig) else "vit"


AnyEncoderConfig = Annotated[
    Annotated[EncoderConfig, Tag("vit")] | Annotated[TimmEncoderConfig, Tag("timm")],
    Discriminator(_encoder_kind),
]


class WorldModelConfig(FrozenConfig):
    """A frozen encoder, an action-conditioned predictor, and the robot motion they were made for."""

    name: str = Field(min_length=1, description="What the server and logs call the model.")
    encoder: AnyEncoderConfig
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
    frame_geometry: FrameGeometry = Field(
        default="centre_square", description="How a camera frame becomes `img_size`."
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
        if self.encoder.rope not in (None, self.predictor.rope):
            raise ValueError(
                f"the encoder's rope is {self.encoder.rope!r}, the predictor's "
                f"{self.predictor.rope!r}; flavours do not mix"
            )
        height, width = self.encoder.img_size
        if self.frame_geometry == "centre_square" and height != width:
            raise ValueError(
                f"frame_geometry centre_square needs a square img_size, got {height} x {width}"
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
    times the speed at which they were acquired, so "4 fps" are 1.06 s apart.
    """
    return WorldModelConfig(
        name="vjepa2-ac-vitg",
        encoder=vit_giant_xformers(),
        predictor=ACPredictorConfig(embed_dim=1408),
        control_period_s=1.06,
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
