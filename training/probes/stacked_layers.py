"""Linear layers, norms and attention of many heads at once; their weights have a leading axis.

Letters in shapes: H heads of the grid, B samples, N tokens, M samples times tokens, D channels,
K outputs, R vectors that tokens are compared with. `1 or H`: what all heads have in common is given
once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer-normalise without the scale and shift, which are folded into what follows."""
    return F.layer_norm(x, x.shape[-1:], eps=norm.eps)


def normed_linear(x: Tensor, norm: nn.LayerNorm, layer: nn.Linear) -> Tensor:
    """Apply norm and linear layer of every head to `[1 or H, B, N, D]`, giving `[H, B N, K]`.

    W (g x + b) + c = (W g) x + (W b + c): scale and shift are folded into the weights, unless there
    are fewer tokens than weights to multiply.
    """
    flat = normalise(x, norm).flatten(1, 2)
    if len(flat) > 1 and flat.shape[1] <= layer.bias.shape[1]:
        shifted = torch.addcmul(norm.bias.unsqueeze(1), flat, norm.weight.unsqueeze(1))
        return torch.baddbmm(layer.bias.unsqueeze(1), shifted, layer.weight.mT)
    weight = layer.weight * norm.weight.unsqueeze(1)
    bias = layer.bias + torch.einsum("hkd,hd->hk", layer.weight, norm.bias)
    if len(flat) == 1:
        return shared_linear(flat, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)


def shared_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply weights `[H, K, D]` to what all heads have in common, `[1, M, D]`: one product."""
    heads, outputs = bias.shape
    product = F.linear(x[0], weight.flatten(0, 1), bias.flatten())
    return product.view(-1, heads, outputs).transpose(0, 1)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Apply a linear layer of every head to `[H, M, D]`, giving `[H, M, K]`."""
    return torch.baddbmm(layer.bias.unsqueeze(1), x, layer.weight.mT)


def ask(tokens: Tensor, asked: Tensor) -> Tensor:
    """Compare tokens `[1 or H, B, N, D]` with vectors `[H, R, D]`, giving `[H, B, R, N]`."""
    if len(tokens) == 1:
        scores = asked.flatten(0, 1) @ tokens[0].mT  # [B, H R, N]
        return torch.unflatten(scores, 1, asked.shape[:2]).transpose(0, 1)
    return asked.unsqueeze(1) @ tokens.mT


def gather(weights: Tensor, tokens: Tensor) -> Tensor:
    """Average tokens `[1 or H, B, N, D]` with weights `[H, B, R, N]`, giving `[H, B, R, D]`."""
    if len(tokens) == 1:
        rows = weights.transpose(0, 1)  # [B, H, R, N]
        gathered = rows.flatten(1, 2) @ tokens[0]
        return torch.unflatten(gathered, 1, rows.shape[1:3]).transpose(0, 1)
    return weights @ tokens
