"""Building blocks of every network here: attention, MLP, pre-norm block, initial weights.

Parameter names are those of the published checkpoints.
Letters in shapes: B samples, N tokens, D channels of a token, C channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.config import TransformerConfig
from models.rope import Rotary

_INITIAL_STD = 0.02
_SHORT_SEQUENCE = 512  # tokens


class Attention(nn.Module):
    """Multi-head self-attention with rotated queries and keys."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: Rotary | None, allowed: Tensor | None = None) -> Tensor:
        """Let every token attend to others.

        Args:
            x: Tokens `[B, N, D]`.
            rotary: Their positions; None: they have none, or carry them already.
            allowed: Who may see whom, bool `[N, N]` or `[B, 1, N, N]`; None: all see all.
        """
        return self.merge(attend(*self.project(x, rotary), allowed))

    def project(self, x: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values of tokens, each `[B, heads, N, C]`."""
        qkv: Tensor = self.qkv(x)
        # [B, N, 3 D] -> three times [B, heads, N, C]
        q, k, v = qkv.view(*x.shape[:2], 3, self._num_heads, -1).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q, k = rotary.rotate(q), rotary.rotate(k)
        return q, k, v

    def merge(self, attended: Tensor) -> Tensor:
        """Bring what the heads found `[B, heads, N, C]` together, `[B, N, D]`."""
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of `[B, heads, N, C]`; see `Attention` for `allowed`."""
    if q.device.type != "cpu" or q.shape[-2] * k.shape[-2] > _SHORT_SEQUENCE**2:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    # The fused CPU kernel is made for long sequences; on a frame or two it takes up to three times
    # as long as these products, forwards in bfloat16 and backwards in both types.
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        # Added rather than filled in: nothing has to be masked again on the way back.
        scores = scores + scores.new_zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)
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
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = MLP(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor, rotary: Rotary | None, allowed: Tensor | None = None) -> Tensor:
        """Transform tokens `[B, N, D]`; see `Attention` for the rest."""
        x = x + self.attn(self.norm1(x), rotary, allowed)
        y: Tensor = x + self.mlp(self.norm2(x))
        return y

    def project(self, x: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor, Tensor]:
        """Do what comes before attention: return queries, keys and values `[B, heads, N, C]`."""
        return self.attn.project(self.norm1(x), rotary)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Do what comes after attention: add what the heads found `[B, heads, N, C]`, then the MLP."""
        x = x + self.attn.merge(attended)
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


def normalise(tokens: Tensor) -> Tensor:
    """Layer-normalise tokens `[..., D]` without learned scale, in float32."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


def make_blocks(config: TransformerConfig, depth: int | None = None) -> nn.ModuleList:
    """Build the stack of blocks that a configuration describes, or `depth` of them."""
    return nn.ModuleList(Block(config) for _ in range(config.depth if depth is None else depth))


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    rotary: Rotary | None,
    allowed: Tensor | None = None,
    *,
    checkpoint_activations: bool = False,
) -> Tensor:
    """Send tokens `[B, N, D]` through blocks; recompute activations backwards where asked to."""
    for block in blocks:
        x = run_block(block, x, rotary, allowed, checkpoint_activations=checkpoint_activations)
    return x


def run_block(
    block: nn.Module,
    x: Tensor,
    rotary: Rotary | None,
    allowed: Tensor | None = None,
    *,
    checkpoint_activations: bool = False,
) -> Tensor:
    """Send tokens `[B, N, D]` through one block; see `run_blocks`."""
    if checkpoint_activations and torch.is_grad_enabled():
        y: Tensor = checkpoint(block, x, rotary, allowed, use_reentrant=False)
    else:
        y = block(x, rotary, allowed)
    return y


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
