"""One way to build every encoder that a configuration may describe, and to show it single images."""

from __future__ import annotations

from torch import Tensor

from models.config import EncoderConfig, TimmEncoderConfig
from models.encoder import VisionTransformer
from models.layers import normalise
from models.timm_encoder import TimmEncoder

Encoder = VisionTransformer | TimmEncoder
"""Takes clips `[B, 3, T, H, W]`, gives tokens `[B, N, D]`, and carries its `config`."""


def build_encoder(config: EncoderConfig | TimmEncoderConfig) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        MissingDependencyError: It is timm's and timm is not installed.
        ConfigurationError: It is timm's and timm cannot build it.
    """
    if isinstance(config, TimmEncoderConfig):
        return TimmEncoder(config)
    return VisionTransformer(config)


def encode_images(encoder: Encoder, pixels: Tensor) -> Tensor:
    """Encode images one by one, each repeated to fill what the encoder takes as an image.

    Training and planning both come through here, so that tokens mean the same in both.

    Args:
        encoder: The encoder.
        pixels: Preprocessed images `[B, 3, H, W]`, see `models.preprocess`, in a type that it computes with.

    Returns:
        Layer-normed tokens `[B, N, D]`, float32.
    """
    clip = pixels.unsqueeze(2).expand(-1, -1, encoder.config.frames_per_image, -1, -1)
    return normalise(encoder(clip))
