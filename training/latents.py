"""Frozen tokens of a whole data set, encoded once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from models.encoder import VisionTransformer
from models.preprocess import preprocess_frames
from trajectories.shards import ShardSet


@torch.no_grad()
def encode_frames(encoder: VisionTransformer, frames: Tensor) -> Tensor:
    """Encode frames one by one, each repeated to a tubelet, as the planner will.

    Args:
        encoder: The frozen encoder.
        frames: uint8 RGB `[B, H, W, 3]`.

    Returns:
        Layer-normed tokens, float32 `[B, N, D]`.
    """
    config = encoder.config
    pixels = preprocess_frames(frames, config.img_size)
    clip = pixels.unsqueeze(2).expand(-1, -1, config.frames_per_image, -1, -1)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(clip).float()
    return F.layer_norm(tokens, (tokens.shape[-1],))


def encode_data(encoder: VisionTransformer, data: ShardSet) -> Tensor:
    """Encode every frame of a data set into tokens, float16 `[E, T, N, D]`, held in memory."""
    encoded = [
        encode_frames(encoder, torch.from_numpy(data.frames(episode).copy())).half()
        for episode in track(range(len(data)), description="encoding frames")
    ]
    return torch.stack(encoded)
