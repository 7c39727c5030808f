"""The cached rollout laid out for a CPU that multiplies in bfloat16; for inference only.

Weights are stored in the order in which oneDNN reads them, and GELU is taken while a product is still in
registers. The channels of every head are reordered, first the even ones and then the odd ones: attention
does not mind, and turning queries and keys becomes an exchange of halves. The results are those of the
plain blocks up to the rounding of bfloat16.

Letters in shapes: B samples, K tokens of a frame, W channels of a token, C channels of a head.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.layers import Block
from models.rollout import ACRollout
from models.rope import Rotary

_ONEDNN = torch.ops.mkldnn
_reorder: Any = getattr(_ONEDNN, "_reorder_linear_weight", None)
_linear: Any = getattr(_ONEDNN, "_linear_pointwise", None)
_MALLOC_OPTIONS = {  # numbers of mallopt(3) and sizes [bytes]
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD, as large as it may be
    -1: 2**30,  # M_TRIM_THRESHOLD
    -2: 64 * 2**20,  # M_TOP_PAD
}


def can_pack(predictor: ACPredictor) -> bool:
    """Return whether a predictor can be packed: it is bfloat16 on a CPU, and torch has the operations."""
    weight = predictor.predictor_proj.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and _reorder is not None
        and _linear is not None
    )


def packed_rollout(predictor: ACPredictor) -> ACRollout:
    """Return the cached rollout of a predictor that `can_pack`; it keeps copies of the weights.

    It also makes the process keep memory that it frees, up to 1 GiB: results of a few megabytes come
    and go all the time, and getting their pages anew takes as long as a tenth of the computation.
    """
    keep_freed_memory()
    heads = predictor.config.num_heads
    blocks = [PackedBlock(cast(Block, block), heads) for block in predictor.predictor_blocks]
    rollout = ACRollout(predictor, blocks)
    order = _halves(predictor.config.head_dim)
    rollout.rotary = Rotary(
        rollout.rotary.cosine[:, order].contiguous(), rollout.rotary.sine[:, order].contiguous()
    )
    return rollout


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


class PackedBlock:
    """A `RolloutBlock` with packed weights.

    Args:
        block: The block, bfloat16, on a CPU.
        heads: Its attention heads.
    """

    def __init__(self, block: Block, heads: int) -> None:
        self._heads = heads
        self._norm1, self._norm2 = block.norm1, block.norm2
        qkv = block.attn.qkv
        dim = qkv.in_features
        channels = torch.arange(dim).view(heads, -1)[:, _halves(dim // heads)].flatten()
        rows = torch.cat([channels, channels + dim, torch.arange(2 * dim, 3 * dim)])
        self._qkv = PackedLinear(qkv.weight[rows], qkv.bias[rows])
        self._proj, self._fc1, self._fc2 = (
            PackedLinear(layer.weight, layer.bias)
            for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2)
        )

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values `[B, heads, K, C]` of tokens `[B, K, W]`."""
        mixed = self._qkv(self._norm1(x)).view(*x.shape[:2], 3, self._heads, -1)
        # Three contiguous [B, heads, K, C], which batched products take without a copy.
        split = mixed.permute(2, 0, 3, 1, 4).contiguous()
        even, odd = split[:2].chunk(2, dim=-1)
        exchanged = torch.cat([odd, even], dim=-1)
        queries, keys = torch.addcmul(split[:2] * rotary.cosine, exchanged, rotary.sine)
        return queries, keys, split[2]

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what the heads found `[B, heads, K, C]` to `[B, K, W]`, then transform every token."""
        x = self._proj(attended.transpose(1, 2).flatten(2)).add_(x)
        return self._fc2(self._fc1.gelu(self._norm2(x))).add_(x)


class PackedLinear:
    """A linear layer with its weight in oneDNN's own layout."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = _reorder(weight.detach().contiguous())
        self._bias = bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output for `[..., D]`."""
        y: Tensor = _linear(x, self._weight, self._bias, "none", [], "")
        return y

    def gelu(self, x: Tensor) -> Tensor:
        """Return the exact GELU of the layer's output."""
        y: Tensor = _linear(x, self._weight, self._bias, "gelu", [], "none")
        return y


def _halves(channels: int) -> Tensor:
    """Return the channels of a head in the order even, odd."""
    return torch.arange(channels).view(-1, 2).t().flatten()
