"""What `benchmarks.training` trains: the shapes of the shipped model, or the published ones."""

from __future__ import annotations

from dataclasses import dataclass

from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    MaskPredictorConfig,
    vit_giant_xformers,
    vit_large,
)


@dataclass(frozen=True)
class Size:
    """What is trained in a benchmark.

    Attributes:
        encoder: The frozen encoder of post-training.
        predictor: The action-conditioned predictor.
        windows: Windows of an update.
        fine_tuned: The predictor whose memory is looked at, one window at a time.
        pretrained: The encoder of pretraining.
        mask_predictor: Its predictor.
        clips: Clips of an update.
        clip_frames: Frames of a clip.
    """

    encoder: EncoderConfig
    predictor: ACPredictorConfig
    windows: int
    fine_tuned: ACPredictorConfig
    pretrained: EncoderConfig
    mask_predictor: MaskPredictorConfig
    clips: int
    clip_frames: int


def small() -> Size:
    """Return the shapes of the shipped model, for a CPU."""
    encoder = EncoderConfig(img_size=(128, 128), num_frames=8, embed_dim=192, depth=6, num_heads=3)
    return Size(
        encoder=encoder,
        predictor=ACPredictorConfig(
            grid_size=(8, 8), embed_dim=192, predictor_embed_dim=192, depth=6, num_heads=3
        ),
        windows=8,
        fine_tuned=ACPredictorConfig(embed_dim=1408, predictor_embed_dim=512, depth=8, num_heads=8),
        pretrained=encoder,
        mask_predictor=MaskPredictorConfig(
            grid_size=(8, 8), embed_dim=192, predictor_embed_dim=96, depth=4, num_heads=3
        ),
        clips=8,
        clip_frames=8,
    )


def published() -> Size:
    """Return the published shapes, for a GPU."""
    return Size(
        encoder=vit_giant_xformers(),
        predictor=ACPredictorConfig(embed_dim=1408),
        windows=8,
        fine_tuned=ACPredictorConfig(embed_dim=1408),
        pretrained=vit_large(),
        mask_predictor=MaskPredictorConfig(embed_dim=1024),
        clips=24,
        clip_frames=16,
    )
