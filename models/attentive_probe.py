"""Attentive pooling of frozen tokens, and classifiers on it (arXiv 2506.09985, section 4).

Parameter names are those of the published probes.
Letters in shapes: B samples, N tokens, Q queries, D channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import AttentiveProbeConfig
from models.errors import InvalidInputError
from models.layers import MLP, initialise, make_blocks, run_blocks

_QUERY_STD = 0.02


class CrossAttention(nn.Module):
    """Multi-head attention of queries to tokens; unlike self-attention, nothing follows the heads."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Let queries `[B, Q, D]` attend to tokens `[B, N, D]`."""
        q = self.q(queries).unflatten(-1, (self._num_heads, -1)).transpose(1, 2)
        # [B, N, 2 D] -> twice [B, heads, N, C]
        k, v = self.kv(tokens).unflatten(-1, (2, self._num_heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class CrossAttentionBlock(nn.Module):
    """Cross attention and MLP, each added to the queries; the tokens are normed, queries are not."""

    def __init__(self, config: AttentiveProbeConfig) -> None:
        super().__init__()
        dim = config.width
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.xattn = CrossAttention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = MLP(dim, int(dim * config.mlp_ratio))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Let queries `[B, Q, D]` gather from tokens `[B, N, D]`."""
        queries = queries + self.xattn(queries, self.norm1(tokens))
        pooled: Tensor = queries + self.mlp(self.norm2(queries))
        return pooled


class AttentivePooler(nn.Module):
    """Blocks over all tokens, then learned queries that gather from them."""

    def __init__(self, config: AttentiveProbeConfig, num_queries: int = 1) -> None:
        super().__init__()
        self.config = config
        self.query_tokens = nn.Parameter(torch.empty(1, num_queries, config.width))
        self.cross_attention_block = CrossAttentionBlock(config)
        # The last of `depth` blocks is the cross attention.
        self.blocks = make_blocks(config, config.depth - 1)
        initialise(self)
        nn.init.trunc_normal_(self.query_tokens, std=_QUERY_STD)
        self.cross_attention_block.mlp.fc2.weight.data.div_(math.sqrt(2.0 * config.depth))

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens `[B, N, D]` of any number into `[B, Q, D]`.

        Raises:
            InvalidInputError: The tokens have another number of channels.
        """
        if tokens.ndim != 3 or tokens.shape[2] != self.config.width or 0 in tokens.shape:
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; expected [B, N, {self.config.width}]"
            )
        tokens = run_blocks(self.blocks, tokens, None)
        queries = self.query_tokens.expand(tokens.shape[0], -1, -1)
        pooled: Tensor = self.cross_attention_block(queries, tokens)
        return pooled


class AttentiveClassifier(nn.Module):
    """One query and a linear layer: which class a clip shows."""

    def __init__(self, config: AttentiveProbeConfig, num_classes: int) -> None:
        super().__init__()
        self.pooler = AttentivePooler(config)
        self.linear = nn.Linear(config.width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, N, D]` into logits `[B, classes]`."""
        logits: Tensor = self.linear(self.pooler(tokens).squeeze(1))
        return logits


class Anticipation(NamedTuple):
    """Logits of what happens next, each `[B, classes]`."""

    verb: Tensor
    noun: Tensor
    action: Tensor


class AnticipationClassifier(nn.Module):
    """Three queries, three linear layers: verb, noun and action of what comes next (section 6.2)."""

    def __init__(
        self, config: AttentiveProbeConfig, num_verbs: int, num_nouns: int, num_actions: int
    ) -> None:
        super().__init__()
        self.pooler = AttentivePooler(config, num_queries=3)
        self.verb_classifier = nn.Linear(config.width, num_verbs)
        self.noun_classifier = nn.Linear(config.width, num_nouns)
        self.action_classifier = nn.Linear(config.width, num_actions)

    def forward(self, tokens: Tensor) -> Anticipation:
        """Turn tokens `[B, N, D]`, of the encoder and of the predicted future, into logits."""
        verb, noun, action = self.pooler(tokens).unbind(1)
        return Anticipation(
            self.verb_classifier(verb), self.noun_classifier(noun), self.action_classifier(action)
        )
