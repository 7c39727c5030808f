"""Factorised space-time attention: even blocks look around a frame, odd blocks along the time.

For pretraining on small machines. A clip of T tubelets of N patches costs T N^2 and N T^2 instead
of (T N)^2. The weights have the names and shapes of joint attention, but do not mean the same.
Letters in shapes: B samples, T tubelets, N patches per frame, K tokens kept, D channels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from models.layers import run_block
from models.rope import Rotary


def run_in_space(
    block: nn.Module,
    x: Tensor,
    rotary: Rotary | None,
    frames: int,
    *,
    checkpoint_activations: bool = False,
) -> Tensor:
    """Let tokens `[B, T * N, D]` of whole clips attend within their frame."""
    batch, tokens, _ = x.shape
    ids = rearrange(torch.arange(tokens, device=x.device), "(t n) -> t n", t=frames)
    y = run_block(
        block,
        rearrange(x, "b (t n) d -> (b t) n d", t=frames),
        None if rotary is None else rotary.select(ids.repeat(batch, 1)),
        checkpoint_activations=checkpoint_activations,
    )
    return rearrange(y, "(b t) n d -> b (t n) d", t=frames)


def run_in_time(
    block: nn.Module,
    x: Tensor,
    rotary: Rotary | None,
    frames: int,
    *,
    checkpoint_activations: bool = False,
) -> Tensor:
    """Let tokens `[B, T * N, D]` of whole clips attend along the time, each at its place."""
    batch, tokens, _ = x.shape
    ids = rearrange(torch.arange(tokens, device=x.device), "(t n) -> n t", t=frames)
    y = run_block(
        block,
        rearrange(x, "b (t n) d -> (b n) t d", t=frames),
        None if rotary is None else rotary.select(ids.repeat(batch, 1)),
        checkpoint_activations=checkpoint_activations,
    )
    return rearrange(y, "(b n) t d -> b (t n) d", b=batch)


def same_frame(ids: Tensor, places: int) -> Tensor:
    """Return which of the kept tokens with ids `[B, K]` share a frame, bool `[B, 1, K, K]`."""
    frame = ids // places
    return (frame.unsqueeze(2) == frame.unsqueeze(1)).unsqueeze(1)


def same_place(ids: Tensor, places: int) -> Tensor:
    """Return which of the kept tokens with ids `[B, K]` share a place, bool `[B, 1, K, K]`."""
    return same_frame(ids % places, 1)
