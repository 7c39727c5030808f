"""What a training costs, on paper: arithmetic, memory, storage and GPU hours.

Counts multiplications and additions of matrix products (2 per multiply-add), as MFU is usually counted;
norms, activations and rotary embeddings are left out. Backward passes cost twice the forward pass, and
recomputing activations costs one more. `training.cost_check` holds the model against measured runs.
Letters: N tokens of a sequence, D channels, M hidden channels of an MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import nn

from models.ac_predictor import ACPredictor
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    MaskPredictorConfig,
    TransformerConfig,
)
from models.encoder import CHANNELS, VisionTransformer
from models.mask_predictor import MaskPredictor
from training.posttrain_config import LoRAConfig, PosttrainConfig

EXPECTED_MFU: Final = 0.45

PEAK_FLOPS: Final = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "RTX 4090": 165e12}
"""Dense bfloat16 peak of one card [FLOP/s], by its maker's data sheet."""

STATE_BYTES: Final = {"adamw": 8.0, "adamw8bit": 2.03, "paged_adamw8bit": 2.03}
"""Bytes of optimiser state for a trained number: two float32, or two bytes and their block scales."""

_FLOAT32: Final = 4
_BFLOAT16: Final = 2
_FORWARD_BACKWARD: Final = 3
_MASK_KEPT: Final = (0.38, 0.19)

NetworkConfig = EncoderConfig | MaskPredictorConfig | ACPredictorConfig


@dataclass(frozen=True)
class Cost:
    """What a training asks for.

    Attributes:
        flops_per_update: Floating-point operations of an update, over all processes.
        updates: Number of updates.
        trained: Parameters that are trained.
        held: Parameters that are held besides them: frozen ones and moving averages.
        state_bytes: Weights, their bfloat16 copies, gradients and optimiser state, over all processes
            [bytes].
        activation_bytes: Activations that the backward pass of one sample needs [bytes].
        checkpoint_bytes: A checkpoint to continue from [bytes].
    """

    flops_per_update: float
    updates: int
    trained: int
    held: int
    state_bytes: float
    activation_bytes: float
    checkpoint_bytes: float

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole training."""
        return self.flops_per_update * self.updates

    def gpu_hours(self, card: str, mfu: float = EXPECTED_MFU) -> float:
        """Return hours on one card at a share `mfu` of its peak."""
        return self.flops / (PEAK_FLOPS[card] * mfu) / 3600


def block_flops(config: TransformerConfig, tokens: int, depth: int | None = None) -> float:
    """Return the forward pass through a stack of blocks: 8 N D^2 + 4 N D M + 4 N^2 D for each."""
    width = config.width
    hidden = int(width * config.mlp_ratio)
    layers = config.depth if depth is None else depth
    return layers * (
        8.0 * tokens * width**2 + 4.0 * tokens * width * hidden + 4.0 * tokens**2 * width
    )


def encoder_flops(config: EncoderConfig, tokens: int, seen: int | None = None) -> float:
    """Return the forward pass of an encoder over a clip of `tokens`, `seen` of which reach the blocks."""
    tubelet = (
        1 if config.separate_images and tokens == config.tokens_per_frame else config.tubelet_size
    )
    patch = CHANNELS * tubelet * config.patch_size**2
    embedding = 2.0 * tokens * patch * config.embed_dim
    return embedding + block_flops(config, tokens if seen is None else seen)


def mask_predictor_flops(config: MaskPredictorConfig, seen: int, hidden: int) -> float:
    """Return the forward pass of the mask predictor from `seen` tokens to `hidden` ones.

    All tokens are projected back: those of the context may be learned from as well.
    """
    layers = 2.0 * config.embed_dim * config.width * (2 * seen + hidden)
    return layers + block_flops(config, seen + hidden)


def ac_predictor_flops(config: ACPredictorConfig, frames: int) -> float:
    """Return the forward pass of the action-conditioned predictor over a context of frames."""
    patches = frames * config.tokens_per_frame
    layers = 4.0 * patches * config.embed_dim * config.width
    conditions = 2.0 * frames * config.condition_tokens * config.action_dim * config.width
    tokens = frames * (config.tokens_per_frame + config.condition_tokens)
    return layers + conditions + block_flops(config, tokens)


def activation_bytes(config: TransformerConfig, tokens: int, *, checkpointed: bool) -> float:
    """Return what the blocks keep for the backward pass of one sample, with bfloat16 autocast.

    A block keeps its input and the middle of its residual stream, what both norms make of them, queries
    and keys before and after rotation, values, what attention puts out, and two MLP layers: 10 D + 2 M
    numbers a token; attention is counted as fused. The action-conditioned predictor's attention keeps
    its mask besides. Checkpointed blocks keep their input, and one at a time keeps everything.
    """
    width = config.width
    hidden = int(width * config.mlp_ratio)
    block = 10.0 * width + 2.0 * hidden
    if isinstance(config, ACPredictorConfig):
        block += tokens
    per_token = config.depth * width + block if checkpointed else config.depth * block
    return _BFLOAT16 * tokens * per_token


def parameters(config: NetworkConfig) -> int:
    """Return the number of parameters of a network, without building it in memory."""
    return _parameters(config)


@lru_cache(maxsize=64)
def _parameters(config: NetworkConfig) -> int:
    build: dict[type, type[nn.Module]] = {
        EncoderConfig: VisionTransformer,
        MaskPredictorConfig: MaskPredictor,
        ACPredictorConfig: ACPredictor,
    }
    with torch.device("meta"):
        network = build[type(config)](config)
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class ClipBatches:
    """Updates of a pretraining that are alike.

    Attributes:
        frames: Frames of a clip.
        img_size: Height and width of a clip [px].
        batch_size: Clips of an update, over all processes.
        updates: Number of updates.
    """

    frames: int
    img_size: tuple[int, int]
    batch_size: int
    updates: int


def pretraining_cost(
    encoder: EncoderConfig,
    predictor: MaskPredictorConfig,
    batches: Sequence[ClipBatches],
    *,
    kept: Sequence[float] = _MASK_KEPT,
    checkpointed: bool = False,
    optimiser: str = "adamw",
) -> Cost:
    """Return the cost of masked pretraining.

    Args:
        encoder: The encoder; its moving average sees whole clips, forwards only.
        predictor: The mask predictor.
        batches: Stages of the training, one after the other.
        kept: Share of the tokens that each mask leaves to the encoder.
        checkpointed: Whether activations are recomputed.
        optimiser: A key of `STATE_BYTES`.
    """
    total, longest = 0.0, 0
    passes = _FORWARD_BACKWARD + checkpointed
    for stage in batches:
        rows, columns = (side // encoder.patch_size for side in stage.img_size)
        tokens = rows * columns * stage.frames // encoder.tubelet_size
        longest = max(longest, tokens)
        flops = encoder_flops(encoder, tokens)
        for share in kept:
            seen = round(share * tokens)
            flops += passes * encoder_flops(encoder, tokens, seen)
            flops += passes * mask_predictor_flops(predictor, seen, tokens - seen)
        total += flops * stage.batch_size * stage.updates
    updates = sum(stage.updates for stage in batches)
    trained = parameters(encoder) + parameters(predictor)
    held = parameters(encoder)
    kept_bytes = sum(
        activation_bytes(encoder, round(share * longest), checkpointed=checkpointed)
        + activation_bytes(predictor, longest, checkpointed=checkpointed)
        for share in kept
    )
    return _cost(total / max(1, updates), updates, trained, held, optimiser, kept_bytes)


def posttraining_cost(recipe: PosttrainConfig, *, cached: bool) -> Cost:
    """Return the cost of a post-training recipe.

    Args:
        recipe: The recipe; without `encoder` in it, encoding is not counted.
        cached: Whether tokens come from a cache, which leaves the encoder off the card.
    """
    loss, predictor = recipe.loss, recipe.predictor
    checkpointed = recipe.run.checkpoint_activations
    passes = _FORWARD_BACKWARD + checkpointed
    forced = ac_predictor_flops(predictor, loss.context_frames)
    rolled = sum(ac_predictor_flops(predictor, n) for n in range(2, loss.rollout_steps + 1))
    flops = passes * (forced + rolled / loss.rollout_every)
    outside = 0
    if recipe.encoder is not None and not cached:
        frames = loss.frames(rollout=True)
        flops += frames * encoder_flops(recipe.encoder, recipe.encoder.tokens_per_frame)
        outside = parameters(recipe.encoder)
    per_frame = predictor.tokens_per_frame + predictor.condition_tokens
    contexts = [loss.context_frames, *range(2, loss.rollout_steps + 1)]
    kept_bytes = sum(
        activation_bytes(predictor, n * per_frame, checkpointed=checkpointed) for n in contexts
    )
    trained, held = parameters(predictor), outside
    if recipe.lora is not None:
        held += trained
        trained = _trained_by_lora(predictor, recipe.lora)
    return _cost(
        flops * recipe.batch_size,
        recipe.steps,
        trained,
        held,
        recipe.optimiser.kind,
        kept_bytes,
        outside,
    )


def _trained_by_lora(config: ACPredictorConfig, lora: LoRAConfig) -> int:
    """Return the parameters that low-rank changes train, with the layers that take conditions in."""
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    shapes = {
        "attn.qkv": (width, 3 * width),
        "attn.proj": (width, width),
        "mlp.fc1": (width, hidden),
        "mlp.fc2": (hidden, width),
    }
    per_block = sum(lora.rank * sum(shapes[target]) for target in lora.targets)
    conditions = (1 + config.use_state) * (config.action_dim + 1) * width
    return config.depth * per_block + conditions


def _cost(
    flops_per_update: float,
    updates: int,
    trained: int,
    held: int,
    optimiser: str,
    kept_bytes: float,
    outside: int = 0,
) -> Cost:
    """Add memory up; `outside` of the held parameters are no part of checkpoints."""
    state = STATE_BYTES[optimiser]
    return Cost(
        flops_per_update=flops_per_update,
        updates=updates,
        trained=trained,
        held=held,
        state_bytes=trained * (2 * _FLOAT32 + _BFLOAT16 + state) + held * (_FLOAT32 + _BFLOAT16),
        activation_bytes=kept_bytes,
        checkpoint_bytes=trained * (_FLOAT32 + state) + (held - outside) * _FLOAT32,
    )
