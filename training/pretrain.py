"""V-JEPA pretraining: predict the tokens of hidden regions, in the space of an averaged encoder.

The objective of arXiv 2506.09985, equation 1: the encoder sees a masked clip, the predictor fills
in the hidden tokens, and the L1 distance to the layer-normed tokens of an exponential moving
average of the encoder is minimised. Optionally visible tokens are predicted too (arXiv 2603.14482).

Letters in shapes: B samples, T frames, N tokens, K of them seen, M hidden, D channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.model_folder import save_encoder
from models.weights import load_strictly, on_meta
from training.clips import ClipBatch, ClipGroup, ClipSource
from training.collapse import CollapseWatch, temporal_diversity, token_rank, token_std
from training.distributed import local
from training.loop import Training
from training.pretrain_config import ContextLoss, PretrainConfig
from training.schedules import linear


class MaskedPrediction(nn.Module):
    """Encoder, predictor and averaged encoder; called with a batch it returns the loss.

    Attributes:
        encoder: Learns.
        predictor: Learns.
        target: The moving average of `encoder`, whose tokens are predicted; it is what is kept.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self._config = config
        self.encoder = VisionTransformer(config.encoder)
        self.predictor = MaskPredictor(config.predictor)
        self.target = copy.deepcopy(self.encoder).requires_grad_(requires_grad=False)

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of some clips, averaged over lengths and masks, and what to log."""
        hidden_losses, visible_losses = [], []
        values: dict[str, Tensor] = {}
        for group in batch.groups:
            raw = self._target_tokens(group.clip)
            goal = normalise_levels(raw, self._config.encoder.embed_dim)
            if batch.is_monitored and group is batch.groups[-1]:
                values |= self._signs(raw, group.clip)
            for number, (keep, hidden) in enumerate(zip(group.keep, group.hidden, strict=True)):
                visible, predicted = self._predict(group, number)
                hidden_losses.append(self._distance(predicted, _choose(goal, hidden)).mean())
                if self._config.context_loss is not None:
                    weights = self._visible_weights(group, keep, hidden)
                    visible_losses.append(
                        (self._distance(visible, _choose(goal, keep)) * weights).mean()
                    )
        loss = torch.stack(hidden_losses).mean()
        if self._config.context_loss is None:
            return loss, values
        visible_loss = torch.stack(visible_losses).mean()
        values |= {"hidden_loss": loss, "visible_loss": visible_loss}
        return loss + context_weight(self._config.context_loss, batch.step) * visible_loss, values

    @torch.no_grad()
    def average(self, momentum: float) -> None:
        """Move the target's weights towards the encoder's: theta' = m theta' + (1 - m) theta."""
        averages = [local(parameter.data) for parameter in self.target.parameters()]
        current = [local(parameter.data) for parameter in self.encoder.parameters()]
        torch._foreach_lerp_(averages, current, 1.0 - momentum)

    @torch.no_grad()
    def _target_tokens(self, clip: Tensor) -> Tensor:
        return _encode(self.target, clip, self._levels)

    def _predict(self, group: ClipGroup, number: int) -> tuple[Tensor, Tensor]:
        """Predict visible `[B, K, D]` and hidden `[B, M, D]` tokens from the visible ones."""
        keep, hidden = group.keep[number], group.hidden[number]
        context = _encode(self.encoder, group.clip, self._levels, keep)
        patch = self._config.encoder.patch_size
        grid = group.clip.shape[3] // patch, group.clip.shape[4] // patch
        which = group.order if self._config.placeholder == "frame_count" else number
        return self.predictor.predict_all(context, [keep], [hidden], which, grid)

    @property
    def _levels(self) -> tuple[int, ...] | None:
        return self._config.encoder.norm_layers if self._config.targets == "levels" else None

    def _distance(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return |predicted - wanted|^p / p of every token, averaged over channels."""
        exponent = self._config.loss_exponent
        distance = (predicted.float() - wanted).abs()
        return (distance if exponent == 1.0 else distance**exponent / exponent).mean(dim=-1)

    def _visible_weights(self, group: ClipGroup, keep: Tensor, hidden: Tensor) -> Tensor:
        if self._config.context_loss is None or not self._config.context_loss.by_distance:
            return keep.new_ones((), dtype=torch.float32)
        patch = self._config.encoder.patch_size
        rows, columns = group.clip.shape[3] // patch, group.clip.shape[4] // patch
        return distance_weights(keep, hidden, rows, columns)

    def _signs(self, raw: Tensor, clip: Tensor) -> dict[str, Tensor]:
        signs = {"token_std": token_std(raw), "token_rank": token_rank(raw)}
        tubelets = clip.shape[2] // self._config.encoder.tubelet_size
        if tubelets > 1:
            signs["temporal_diversity"] = temporal_diversity(raw, tubelets)
        return signs


def normalise_levels(tokens: Tensor, channels: int) -> Tensor:
    """Layer-normalise tokens `[.., L * channels]` level by level, without affine parameters."""
    levels = tokens.float().reshape(*tokens.shape[:-1], -1, channels)
    return F.layer_norm(levels, (channels,)).flatten(-2)


def distance_weights(keep: Tensor, hidden: Tensor, rows: int, columns: int) -> Tensor:
    """Weigh visible tokens by 1 / sqrt(distance to the nearest hidden token) (arXiv 2603.14482).

    Args:
        keep: Ids of visible tokens `[B, K]`.
        hidden: Ids of hidden tokens `[B, M]`.
        rows: Rows of the token grid.
        columns: Its columns.

    Returns:
        `[B, K]`; distances are Euclidean, in tubelets and patches.
    """
    first, second = (_positions(ids, rows, columns) for ids in (keep, hidden))
    return torch.cdist(first, second).amin(dim=-1).rsqrt()


def context_weight(config: ContextLoss, step: int) -> float:
    """Return the weight of the loss on visible tokens in update `step` (from 0)."""
    span = config.warmup_end - config.warmup_start
    if span <= 0:
        return config.weight
    return linear(max(0, step - config.warmup_start), span, 0.0, config.weight)


def _encode(
    encoder: VisionTransformer,
    clip: Tensor,
    levels: tuple[int, ...] | None,
    keep: Tensor | None = None,
) -> Tensor:
    masks = None if keep is None else [keep]
    if levels is None:
        tokens: Tensor = encoder(clip, masks)
        return tokens
    return torch.cat(encoder.levels(clip, levels, masks), dim=-1)


def _choose(tokens: Tensor, ids: Tensor) -> Tensor:
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _positions(ids: Tensor, rows: int, columns: int) -> Tensor:
    parts = ids // (rows * columns), ids // columns % rows, ids % columns
    return torch.stack(parts, dim=-1).float()


class Pretraining(Training[ClipBatch]):
    """Masked pretraining as the loop runs it."""

    title: ClassVar[str] = "pretraining"
    network: MaskedPrediction

    def __init__(self, config: PretrainConfig, network: MaskedPrediction) -> None:
        self._config = config
        self._watch = CollapseWatch()
        self.network = network
        self.source = ClipSource(config)

    def after_update(self, step: int) -> None:
        """Move the averaged encoder."""
        config = self._config
        total = config.momentum_over_steps or config.steps
        self.network.average(linear(step - 1, total, *config.momentum))

    def warnings(self, row: Mapping[str, float]) -> list[str]:
        """Say when the encoder seems to collapse."""
        return self._watch.look(row)

    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the averaged encoder, and the predictor beside it."""
        encoder = on_meta(partial(VisionTransformer, self._config.encoder))
        load_strictly(encoder, part_of(state, "target"), "the finished run")
        save_encoder(encoder, directory, metadata, mask_predictor=part_of(state, "predictor"))


def part_of(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the parameters of one of a network's parts under their own names."""
    start = f"{part}."
    return {
        name.removeprefix(start): value for name, value in state.items() if name.startswith(start)
    }
