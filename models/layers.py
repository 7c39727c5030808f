"""Building blocks of every network here: attention, MLP, pre-norm block, initial weights.

Parameter names are those of the published checkpoints.
Letters in shapes: B samples, N tokens, D channels of a token, C channels of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import TransformerConfig
from models.rope import Rotary

NORM_EPS = 1e-6
_INITIAL_STD = 0.02
_SHORT_SEQUENCE = 512  # tokens


class Attention(nn.Module):
    """Multi-head self-attention with rotated queries and keys."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: Rotary, allowed: Tensor | None = None) -> Tensor:
        """Let every token `[B, N, D]` attend to those `allowed` (bool `[N, N]`; None: to all)."""
        qkv: Tensor = self.qkv(x)
        # [B, N, 3 D] -> three times [B, heads, N, C]
        q, k, v = qkv.view(*x.shape[:2], 3, self._num_heads, -1).permute(2, 0, 3, 1, 4)
        y = attend(rotary.rotate(q), rotary.rotate(k), v, allowed)
        output: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return output


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of `[B, heads, N, C]`; see `Attention` for `allowed`."""
    if q.device.type != "cpu" or q.shape[-2] > _SHORT_SEQUENCE:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    # The fused CPU kernel is made for long sequences; on a frame or two it takes up to three times
    # as long as these products, forwards in bfloat16 and backwards in both types.
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(dim=-1).to(v.dtype)
    return weights @ v


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `[B, N, D]` by itself."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Pre-norm transformer block: attention and MLP, each added to its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.width
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = MLP(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor, rotary: Rotary, allowed: Tensor | None = None) -> Tensor:
        """Transform tokens `[B, N, D]`; see `Attention` for the rest."""
        x = x + self.attn(self.norm1(x), rotary, allowed)
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


def make_blocks(config: TransformerConfig) -> nn.ModuleList:
    """Build the stack of blocks that a configuration describes."""
    return nn.ModuleList(Block(config) for _ in range(config.depth))


def initialise(network: nn.Module) -> None:
    """Draw initial weights as the reference does.

    Linear and convolution weights come from a truncated normal distribution, biases are zero, and
    the output layers of block i are divided by sqrt(2 (i + 1)), which keeps the variance of the
    residual stream from growing with depth.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for index, block in enumerate(blocks):
        for layer in (block.attn.proj, block.mlp.fc2):
            layer.weight.data.div_(math.sqrt(2.0 * (index + 1)))
