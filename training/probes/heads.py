"""Many probes side by side: one pass over the tokens serves every head of a grid.

The heads of a grid see the same tokens and differ in their weights alone, so their parameters are
stacked, and most of the work is shared:

- layer norms divide the tokens once for all heads; scale and shift are folded into what follows;
- a query never needs the keys of all tokens, q . (K x) = (K' q) . x, nor their values,
  sum a (V x) = V (sum a x). Cross attention then costs N D per query and attention head instead of
  2 N D D, and the tokens are not projected at all.

All of it is exact up to rounding. Letters in shapes: H heads of the grid, B samples, N tokens,
D channels, Q queries, A attention heads, C channels of one, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attentive_probe import (
    AnticipationClassifier,
    AttentiveClassifier,
    AttentivePooler,
)
from models.config import AttentiveProbeConfig
from models.errors import InvalidInputError
from models.layers import MLP, Block, attend, initialise
from models.weights import load_strictly
from training.probes.stacked_layers import (
    ask,
    gather,
    linear,
    normalise,
    normed_linear,
    shared_linear,
)

_QUESTIONS = 3  # verb, noun, action


class HeadStack(nn.Module, ABC):
    """Probes of one kind whose parameters have a leading axis, one entry per head.

    Attributes:
        count: Number of heads, H.
        outputs: What a head puts out: numbers for each of its questions, K.
        probe: A probe whose parameters are stacked; it is never called, its names are used.
        checkpoint_activations: Recompute blocks in the backward pass instead of keeping them.
    """

    def __init__(self, probes: Sequence[nn.Module], outputs: Sequence[int]) -> None:
        super().__init__()
        if not probes:
            raise InvalidInputError("a stack of no heads; name at least one learning rate")
        self.count = len(probes)
        self.outputs = tuple(outputs)
        self.checkpoint_activations = False
        self.probe = _stacked(probes)

    @abstractmethod
    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Let every head look at tokens `[B, N, D]`.

        Returns:
            For every question the heads' answers, float32 `[H, B, K]`.

        Raises:
            InvalidInputError: The tokens have another number of channels.
        """

    def state_of(self, head: int) -> dict[str, Tensor]:
        """Return copies of one head's weights, under the names of a probe that stands alone."""
        return {
            name: value[head].detach().clone() for name, value in self.probe.state_dict().items()
        }

    def load_heads(self, states: Sequence[Mapping[str, Tensor]], source: str = "the probe") -> None:
        """Give every head the weights of a probe.

        Raises:
            InvalidInputError: There are not as many states as heads.
            CheckpointMismatchError: They belong to other probes, or to another list of classes.
        """
        if len(states) != self.count:
            raise InvalidInputError(f"{source} has {len(states)} heads, the stack {self.count}")
        names = dict.fromkeys(name for state in states for name in state)
        complete = {
            name: torch.stack([state[name] for state in states])
            for name in names
            if all(name in state for state in states)
        }
        device = next(self.parameters()).device
        load_strictly(self.probe, complete, source, device)


class AttentiveHeads(HeadStack):
    """Attentive probes (`models.attentive_probe`), with one query per question.

    Args:
        config: The pooler.
        outputs: One number of classes, or three: of verbs, nouns and actions.
        heads: How many.
    """

    def __init__(self, config: AttentiveProbeConfig, outputs: Sequence[int], heads: int) -> None:
        super().__init__([_attentive_probe(config, outputs) for _ in range(heads)], outputs)
        self.config = config

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Let every head look at tokens `[B, N, D]`; see `HeadStack.forward`."""
        if tokens.ndim != 3 or tokens.shape[2] != self.config.width or 0 in tokens.shape:
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; expected [B, N, {self.config.width}]"
            )
        x = tokens.float().unsqueeze(
            0
        )  # [1, B, N, D]: alike for all heads until a block changes it
        for block in self._pooler.blocks:
            x = self._run(cast("Block", block), x)
        pooled = self._pool(x)
        return tuple(
            torch.baddbmm(layer.bias.unsqueeze(1), pooled[:, :, number], layer.weight.mT).float()
            for number, layer in enumerate(_last_layers(self.probe))
        )

    @property
    def _pooler(self) -> AttentivePooler:
        return cast("AttentivePooler", self.probe.pooler)

    def _run(self, block: Block, x: Tensor) -> Tensor:
        if self.checkpoint_activations and torch.is_grad_enabled():
            y: Tensor = checkpoint(self._block, block, x, use_reentrant=False)
            return y
        return self._block(block, x)

    def _block(self, block: Block, x: Tensor) -> Tensor:
        """Send `[1 or H, B, N, D]` through a block of every head, giving `[H, B, N, D]`."""
        batch, length = x.shape[1:3]
        qkv = normed_linear(x, block.norm1, block.attn.qkv)
        split = qkv.reshape(self.count * batch, length, 3, self.config.num_heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # [H B, A, N, C]
        attended = attend(q, k, v).transpose(1, 2).reshape(self.count, batch * length, -1)
        x = x + linear(attended, block.attn.proj).view(self.count, batch, length, -1)
        return x + self._mlp(x, block.norm2, block.mlp)

    def _pool(self, x: Tensor) -> Tensor:
        """Let the queries gather from `[1 or H, B, N, D]`, giving `[H, B, Q, D]`."""
        block = self._pooler.cross_attention_block
        queries = self._pooler.query_tokens.squeeze(1)  # [H, Q, D]
        tokens = normalise(x, block.norm1)
        kv = torch.unflatten(block.xattn.kv.weight, 1, (2, self.config.num_heads, -1))
        keys, values = kv.unbind(1)  # [H, A, C, D]
        weights = ask(tokens, self._asked(queries, keys)).softmax(dim=-1)  # [H, B, Q A, N]
        gathered = gather(weights.to(tokens.dtype), tokens)  # [H, B, Q A, D]
        queries = queries.unsqueeze(1) + self._values(gathered, values)
        return queries + self._mlp(queries, block.norm2, block.mlp)

    def _asked(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Turn queries `[H, Q, D]` into what normed tokens are multiplied with, `[H, Q A, D]`.

        The bias of the keys and the shift of the norm add the same to all tokens: attention does
        not see them.
        """
        block = self._pooler.cross_attention_block
        q = linear(queries, block.xattn.q) * self.config.head_dim**-0.5
        q = torch.unflatten(q, -1, (self.config.num_heads, -1))
        asked = torch.einsum("hqac,hacd->hqad", q, keys.to(q.dtype)).flatten(1, 2)
        return asked * block.norm1.weight.unsqueeze(1)

    def _values(self, gathered: Tensor, values: Tensor) -> Tensor:
        """Project what was gathered `[H, B, Q A, D]` to values `[H, B, Q, D]`."""
        block = self._pooler.cross_attention_block
        shift = block.norm1.bias[:, None, None]  # the weights of attention add up to one
        gathered = gathered * block.norm1.weight[:, None, None] + shift
        gathered = torch.unflatten(gathered, 2, (-1, self.config.num_heads))  # [H, B, Q, A, D]
        projected = torch.einsum("hbqad,hacd->hbqac", gathered, values.to(gathered.dtype))
        bias = block.xattn.kv.bias[:, None, None, self.config.width :]
        return projected.flatten(3) + bias

    def _mlp(self, x: Tensor, norm: nn.LayerNorm, mlp: MLP) -> Tensor:
        """Transform `[H, B, N, D]`."""
        hidden = F.gelu(normed_linear(x, norm, mlp.fc1))
        return linear(hidden, mlp.fc2).view(*hidden.shape[:1], *x.shape[1:])


class LinearHeads(HeadStack):
    """Linear probes on the mean of all tokens, which is layer-normed without learned scale.

    Args:
        embed_dim: Channels of a token.
        outputs: Numbers that come out, one question.
        heads: How many.
    """

    def __init__(self, embed_dim: int, outputs: Sequence[int], heads: int) -> None:
        if len(outputs) != 1:
            raise InvalidInputError(f"linear probes answer one question, not {len(outputs)}")
        super().__init__([_LinearProbe(embed_dim, outputs[0]) for _ in range(heads)], outputs)
        self._embed_dim = embed_dim

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Let every head look at tokens `[B, N, D]`; see `HeadStack.forward`."""
        if tokens.ndim != 3 or tokens.shape[2] != self._embed_dim or 0 in tokens.shape:
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; expected [B, N, {self._embed_dim}]"
            )
        x = mean_feature(tokens).unsqueeze(0)
        layer = cast("_LinearProbe", self.probe).linear
        return (shared_linear(x, layer.weight, layer.bias).float(),)


class _LinearProbe(nn.Module):
    """A linear probe; its names are those of the files."""

    def __init__(self, embed_dim: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, outputs)
        initialise(self)


def mean_feature(tokens: Tensor) -> Tensor:
    """Return the layer-normed mean of tokens `[B, N, D]`, float32 `[B, D]`."""
    mean = tokens.float().mean(dim=1)
    return F.layer_norm(mean, mean.shape[-1:])


def draw_heads(
    probe: AttentiveProbeConfig | None,
    embed_dim: int,
    outputs: Sequence[int],
    heads: int,
    seed: int,
) -> HeadStack:
    """Draw the weights of many heads, as that many separate probes would be drawn.

    Args:
        probe: The attentive pooler; None: linear probes.
        embed_dim: Channels of a token.
        outputs: Numbers that come out for each question.
        heads: How many.
        seed: Of the draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if probe is None:
            return LinearHeads(embed_dim, outputs, heads)
        return AttentiveHeads(probe, outputs, heads)


def _attentive_probe(config: AttentiveProbeConfig, outputs: Sequence[int]) -> nn.Module:
    if len(outputs) == 1:
        return AttentiveClassifier(config, outputs[0])
    if len(outputs) == _QUESTIONS:
        return AnticipationClassifier(config, *outputs)
    raise InvalidInputError(
        f"{len(outputs)} questions {list(outputs)}; a probe has 1, or {_QUESTIONS}: verb, noun, action"
    )


def _last_layers(probe: nn.Module) -> tuple[nn.Linear, ...]:
    if isinstance(probe, AnticipationClassifier):
        return probe.verb_classifier, probe.noun_classifier, probe.action_classifier
    return (cast("AttentiveClassifier", probe).linear,)


def _stacked(probes: Sequence[nn.Module]) -> nn.Module:
    """Return the first probe with everybody's parameters, stacked along a new first axis."""
    first = probes[0]
    others = [dict(probe.named_parameters()) for probe in probes]
    for name, _ in list(first.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        stacked = torch.stack([parameters[name].detach() for parameters in others])
        setattr(first.get_submodule(owner), leaf, nn.Parameter(stacked))
    return first
