"""One way to build every encoder that a configuration may describe."""

from __future__ import annotations

from models.config import EncoderConfig, TimmEncoderConfig
from models.encoder import VisionTransformer
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
