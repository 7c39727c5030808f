"""The networks that are published, and smaller ones of the same family, by name.

V-JEPA 2: arXiv 2506.09985; V-JEPA 2.1: arXiv 2603.14482; jepa-wms: arXiv 2512.24497.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from models.config import (
    GIANT_MLP_RATIO,
    ACPredictorConfig,
    EncoderConfig,
    WorldModelConfig,
    vit_giant_xformers,
    vit_huge,
    vit_large,
)

_GIGANTIC_MLP_RATIO = 64 / 13  # hidden width 8192 at width 1664


def vit_tiny() -> EncoderConfig:
    """ViT-Ti, 6 M parameters; no weights are published."""
    return EncoderConfig(embed_dim=192, depth=12, num_heads=3)


def vit_small() -> EncoderConfig:
    """ViT-S, 22 M parameters; no weights are published."""
    return EncoderConfig(embed_dim=384, depth=12, num_heads=6)


def vit_base() -> EncoderConfig:
    """ViT-B, 86 M parameters; no weights are published."""
    return EncoderConfig(embed_dim=768, depth=12, num_heads=12)


def vit_giant_384() -> EncoderConfig:
    """ViT-g at 384 px, as published (`vitg-384.pt`)."""
    return vit_giant_xformers((384, 384))


def vjepa2_1_vit_base() -> EncoderConfig:
    """V-JEPA 2.1 ViT-B at 384 px, distilled (`vjepa2_1_vitb_dist_vitG_384.pt`, `ema_encoder`)."""
    return _vjepa2_1(768, 12, (2, 5, 8, 11))


def vjepa2_1_vit_large() -> EncoderConfig:
    """V-JEPA 2.1 ViT-L at 384 px, distilled (`vjepa2_1_vitl_dist_vitG_384.pt`, `ema_encoder`)."""
    return _vjepa2_1(1024, 16, (5, 11, 17, 23))


def vjepa2_1_vit_giant() -> EncoderConfig:
    """V-JEPA 2.1 ViT-g at 384 px (`vjepa2_1_vitg_384.pt`, `target_encoder`)."""
    return _vjepa2_1(1408, 22, (9, 19, 29, 39), GIANT_MLP_RATIO)


def vjepa2_1_vit_gigantic() -> EncoderConfig:
    """V-JEPA 2.1 ViT-G, 2 B parameters, at 384 px (`vjepa2_1_vitG_384.pt`, `target_encoder`)."""
    return _vjepa2_1(1664, 26, (11, 23, 37, 47), _GIGANTIC_MLP_RATIO)


def vjepa2_ac_droid() -> WorldModelConfig:
    """V-JEPA 2-AC as jepa-wms trained it again (`droid_vj2ac_noprop.pth.tar`): no state token.

    The file holds the predictor only; the encoder is the published ViT-g. Its authors plan with
    actions of up to 0.1 m and 0.1 rad per axis.
    """
    return WorldModelConfig(
        name="vjepa2-ac-droid",
        encoder=vit_giant_xformers(),
        predictor=ACPredictorConfig(embed_dim=1408, use_state=False),
        control_period_s=1.06,
        max_step_m=0.1,
        max_rotation_rad=0.1,
        max_gripper=0.75,
    )


def _vjepa2_1(
    embed_dim: int, num_heads: int, norm_layers: tuple[int, ...], mlp_ratio: float = 4.0
) -> EncoderConfig:
    return EncoderConfig(
        img_size=(384, 384),
        embed_dim=embed_dim,
        depth=norm_layers[-1] + 1,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        rope="vjepa2_1",
        norm_layers=norm_layers,
        separate_images=True,
    )


ENCODER_PRESETS: Final[Mapping[str, Callable[[], EncoderConfig]]] = MappingProxyType(
    {
        "vit_tiny": vit_tiny,
        "vit_small": vit_small,
        "vit_base": vit_base,
        "vit_large": vit_large,
        "vit_huge": vit_huge,
        "vit_giant": vit_giant_xformers,
        "vit_giant_384": vit_giant_384,
        "vjepa2_1_vit_base_384": vjepa2_1_vit_base,
        "vjepa2_1_vit_large_384": vjepa2_1_vit_large,
        "vjepa2_1_vit_giant_384": vjepa2_1_vit_giant,
        "vjepa2_1_vit_gigantic_384": vjepa2_1_vit_gigantic,
    }
)
"""Encoders by the names that the reference's hub gives them; `vit_giant` is the published one."""
