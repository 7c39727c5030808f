"""What a pretraining recipe asks for, in words and numbers, without doing any of it.

Networks are built on the meta device: shapes without memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from models.weights import on_meta
from training.cost import ClipBatches, Cost, pretraining_cost
from training.cost_report import describe as describe_cost
from training.masks import Grid, Mask, sample_masks
from training.pretrain import MaskedPrediction
from training.pretrain_config import PretrainConfig, Stage

_DRAWS = 20


def describe_pretraining(config: PretrainConfig) -> str:
    """Describe a recipe: networks, data, stages, masks, schedules and cost."""
    on_meta(lambda: MaskedPrediction(config))  # what cannot be built cannot be planned
    encoder = config.encoder
    lines = [
        (
            f"pretraining       a transformer of {encoder.depth} blocks, {encoder.embed_dim} channels, "
            f"{encoder.num_heads} heads; {config.steps:,} updates of {config.batch_size:,} clips"
        ),
        *(f"data              {line}" for line in _data(config)),
        *(f"stage             {line}" for line in _stages(config)),
        *(f"masks             {line}" for line in _masks(config)),
        f"learning rate     {_milestones(config)}",
        (
            f"processes         at most {min(config.groups(step) for step in _firsts(config)):,}, "
            f"shared by {config.run.strategy}, {config.run.precision}"
        ),
        describe_cost(cost_of(config)),
    ]
    return "\n".join(lines)


def cost_of(config: PretrainConfig) -> Cost:
    """Return the cost of a recipe, with the masks that it really draws."""
    shares = _weights(config)
    batches = [
        ClipBatches(
            max(config.encoded_frames_of(source, first), config.encoder.tubelet_size),
            config.img_size(first),
            max(1, round(config.batch_size * shares[name])),
            updates,
        )
        for first, updates in _spans(config)
        for name, source in config.data.items()
    ]
    kept = [_kept_share(mask, _grid(config, 0), config.group_size_at(0)) for mask in config.masks]
    cost = pretraining_cost(
        config.encoder,
        config.predictor,
        batches,
        kept=kept,
        checkpointed=config.run.checkpoint_activations,
        optimiser=config.optimiser.kind,
    )
    # Sources share an update.
    steps = max(1, config.steps)
    return replace(cost, flops_per_update=cost.flops / steps, updates=steps)


def _spans(config: PretrainConfig) -> Iterator[tuple[int, int]]:
    """List the first update (from 0) and the number of updates of every stage."""
    first = 0
    stages = config.stages or (Stage(steps=max(1, config.steps)),)
    for number, stage in enumerate(stages):
        is_last = number == len(stages) - 1
        updates = max(0, config.steps - first) if is_last else stage.steps
        yield first, updates
        first += updates


def _firsts(config: PretrainConfig) -> list[int]:
    return [first for first, _ in _spans(config)]


def _weights(config: PretrainConfig) -> dict[str, float]:
    total = sum(source.weight for source in config.data.values())
    return {name: source.weight / total for name, source in config.data.items()}


def _data(config: PretrainConfig) -> Iterator[str]:
    for name, source in config.data.items():
        rate = f"{source.fps:g} fps" if source.fps else f"every {source.frame_step or 1} frames"
        length = "stills" if source.frames == 1 else f"{source.frames} frames, {rate}"
        yield (
            f"{name}: {source.kind} {source.path or '(no path)'}, {length}, "
            f"{_weights(config)[name]:.1%} of the clips"
        )


def _stages(config: PretrainConfig) -> Iterator[str]:
    for first, updates in _spans(config):
        height, width = config.img_size(first)
        frames, rows, columns = _grid(config, first)
        yield (
            f"updates {first + 1:,} to {first + updates:,}: {height} x {width} px, up to "
            f"{frames * rows * columns:,} tokens ({frames} x {rows} x {columns}), "
            f"{config.groups(first):,} groups of {config.group_size_at(first)} clips"
        )


def _masks(config: PretrainConfig) -> Iterator[str]:
    for mask in config.masks:
        settings = mask.model_dump(exclude={"kind"}, exclude_defaults=True)
        text = ", ".join(f"{name} {value}" for name, value in settings.items())
        share = _kept_share(mask, _grid(config, 0), config.group_size_at(0))
        yield f"{mask.kind} {text}: {share:.0%} of the tokens are seen"


def _kept_share(mask: Mask, grid: Grid, batch: int) -> float:
    """Measure which share of the tokens a mask leaves, cut to the shortest of a group."""
    generator = torch.Generator().manual_seed(0)
    kept = [
        sample_masks(mask, batch, grid, generator, generator)[0].shape[1] for _ in range(_DRAWS)
    ]
    return sum(kept) / _DRAWS / (grid[0] * grid[1] * grid[2])


def _grid(config: PretrainConfig, step: int) -> Grid:
    """Return the token grid of the longest clips of an update."""
    frames = max(config.encoded_frames_of(source, step) for source in config.data.values())
    height, width = config.img_size(step)
    patch = config.encoder.patch_size
    return max(1, frames // config.encoder.tubelet_size), height // patch, width // patch


def _milestones(config: PretrainConfig) -> str:
    schedule = config.optimiser.learning_rate
    steps = config.steps
    marks = sorted({1, *(round(steps * part / 4) for part in (1, 2, 3)), steps} - {0})
    values = ", ".join(f"{schedule.at(mark, steps):.3g} at {mark:,}" for mark in marks)
    return f"{schedule.kind}: {values}"
