"""Nearest neighbours as a run: nothing is learned, the training samples answer themselves."""

from __future__ import annotations

import torch
from rich.progress import track
from torch import Tensor

from training.distributed import World
from training.probes.config import NeighbourProbe, ProbeConfig
from training.probes.evaluation import Evaluation, Tally, Task
from training.probes.features import FeatureEncoder
from training.probes.heads import mean_feature
from training.probes.neighbours import neighbour_scores
from training.probes.splits import Split, Unread, check_unreadable, encoded, load_entries


def judge_neighbours(
    recipe: ProbeConfig,
    probe: NeighbourProbe,
    encoder: FeatureEncoder,
    train: Split,
    validation: Split,
    task: Task,
    world: World,
) -> Evaluation:
    """Let training samples vote for validation samples; every process has to call it.

    A sample is the layer-normed mean of all its tokens, in all views.

    Raises:
        DataError: Too many samples cannot be read.
    """
    workers, allowed = recipe.run.workers, recipe.data.max_unreadable
    references, seen, unread = _mean_features(train, encoder, world, workers)
    check_unreadable(unread, len(seen), allowed)
    queries, answered, unread = _mean_features(validation, encoder, world, workers)
    labels = torch.tensor([train.samples.labels(index)[0] for index in range(len(seen))])
    tally = Tally(validation, task, [f"{count} neighbours" for count in probe.neighbours])
    if world.is_main:
        for text in unread:
            place, _, reason = text.partition(" ")
            tally.add_unreadable(int(place), reason)
        votes = neighbour_scores(
            queries[answered],
            references[seen],
            labels[seen],
            task.outputs[0],
            neighbours=probe.neighbours,
            temperature=probe.temperature,
        )
        shares = votes / votes.sum(dim=-1, keepdim=True)
        tally.add(answered.nonzero().squeeze(1).tolist(), [shares])
    return tally.result(world, allowed)


def _mean_features(
    split: Split, encoder: FeatureEncoder, world: World, workers: int
) -> tuple[Tensor, Tensor, list[str]]:
    """Return features `[M, D]` of all samples, which of them could be read, and why others not."""
    total = len(split.samples)
    features = torch.zeros(total, encoder.network.config.embed_dim + 1)
    unreadable = []
    mine = [(index, 0) for index in range(world.rank, total, world.size)]
    found = load_entries(split, mine, workers)
    for (place, _), content in track(
        found, "reading features", total=len(mine), disable=not world.is_main, transient=True
    ):
        if isinstance(content, Unread):
            unreadable.append(f"{place:012d} {content.reason}")
            continue
        tokens = encoded(content, encoder).flatten(0, 1)
        features[place, :-1] = mean_feature(tokens.unsqueeze(0))[0].cpu()
        features[place, -1] = 1
    if world.size > 1:
        features = world.mean(features.to(world.device)).cpu() * world.size
    gathered = sorted(text for part in world.gather(unreadable) for text in part)
    return features[:, :-1], features[:, -1] > 0.5, gathered
