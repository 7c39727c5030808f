"""What a cache of latents costs, on paper: frames, storage and the arithmetic of encoding."""

from __future__ import annotations

from dataclasses import dataclass

from models.config import EncoderConfig
from training.cost import encoder_flops


@dataclass(frozen=True)
class CacheCost:
    """What a cache of latents costs.

    Attributes:
        frames: Encoded frames.
        size_bytes: Their tokens on disk [bytes].
        flops: Operations to encode them.
    """

    frames: int
    size_bytes: int
    flops: float


def cache_cost(
    encoder: EncoderConfig,
    duration_s: float,
    row_period_s: float,
    views: int = 1,
    bytes_per_number: int = 2,
) -> CacheCost:
    """Return the cost of a cache of latents.

    Args:
        encoder: Its encoder.
        duration_s: Length of all recordings together [s].
        row_period_s: Time between two encoded rows [s].
        views: Cameras that are encoded.
        bytes_per_number: 2 for bfloat16, 1 for 8-bit floats.
    """
    frames = round(duration_s / row_period_s) * views
    numbers = encoder.tokens_per_frame * encoder.embed_dim
    return CacheCost(
        frames=frames,
        size_bytes=frames * numbers * bytes_per_number,
        flops=frames * encoder_flops(encoder, encoder.tokens_per_frame),
    )
