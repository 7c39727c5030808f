"""A split by sample and version: tokens from the cache or clips for the encoder, alike in results.

What version v of sample i looks like is a function of the seed, i and v alone, wherever it is made.
Letters in shapes: V views, S segments, T frames, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.distributed import World
from training.errors import DataError
from training.probes.feature_cache import Entry, FeatureCache, FeatureKey, FeatureWriter, claim
from training.probes.features import UNREADABLE, FeatureEncoder
from training.probes.samples import Sample, Samples

_VERSION, _OTHER = 21, 22  # what random numbers are for; pretraining uses smaller ones
_SHOWN = 5


@dataclass(frozen=True)
class Unread:
    """Why a sample could not be read."""

    reason: str


@dataclass(frozen=True)
class Split:
    """Samples, and their tokens where these are kept.

    Attributes:
        samples: The samples.
        seed: Of the augmentation; None: they are read as evaluation sees them.
        cache: Their tokens, if they were encoded before.
    """

    samples: Samples
    seed: int | None = None
    cache: FeatureCache | None = None

    def read(self, entry: Entry) -> Sample | Tensor | Unread:
        """Return clips, or their tokens `[V, N, D]`, or why there are none."""
        index, version = entry
        if self.cache is not None:
            if entry in self.cache.unreadable:
                return Unread(self.cache.unreadable[entry])
            return self.cache.read(index, version)
        return self.read_clips(entry)

    def read_clips(self, entry: Entry) -> Sample | Unread:
        """Return a version's clips, or why there are none."""
        index, version = entry
        rng = None
        if self.seed is not None:
            rng = np.random.default_rng([_VERSION, self.seed, index, version])
        try:
            return self.samples.read(index, rng)
        except UNREADABLE as error:
            return Unread(f"{self.samples.name(index)}: {error}")

    def read_or_replace(
        self, entry: Entry, retries: int, skipped: list[str]
    ) -> tuple[int, Sample | Tensor]:
        """Return a version of a sample, or of another one where it cannot be read; and which one.

        Raises:
            DataError: Too many in a row cannot be read.
        """
        index, version = entry
        for attempt in range(retries + 1):
            found = self.read((index, version))
            if not isinstance(found, Unread):
                return index, found
            skipped.append(found.reason)
            rng = np.random.default_rng([_OTHER, self.seed or 0, *entry, attempt])
            index = int(rng.integers(len(self.samples)))
        raise DataError(
            f"{retries + 1} samples in a row cannot be read, the last one {skipped[-1]}; look at "
            "the data, or raise data.max_retries"
        )


def encoded(found: Sample | Tensor, encoder: FeatureEncoder) -> Tensor:
    """Return the tokens of what a split read, `[V, N, D]`."""
    if isinstance(found, Tensor):
        return found
    return encoder.encode(found.clips, found.ahead_s)


def load_entries(
    split: Split, entries: list[Entry], workers: int
) -> Iterator[tuple[Entry, Sample | Tensor | Unread]]:
    """Read entries one after the other, ahead of time where processes are free."""
    loader = DataLoader(
        _Entries(split, entries),
        batch_size=None,
        num_workers=workers,
        # A fork would copy locks that the threads of torch and of video decoders may hold.
        multiprocessing_context="forkserver" if workers else None,
    )
    return zip(entries, loader, strict=True)


def keep_features(
    split: Split,
    encoder: FeatureEncoder,
    directory: Path,
    versions: int,
    world: World,
    workers: int = 0,
) -> Split:
    """Encode what a cache lacks, each process its share; return the split with the cache.

    Args:
        split: The samples.
        encoder: The frozen encoder.
        directory: The cache, new or begun by an earlier call with the same arguments.
        versions: How many versions of a sample.
        world: The processes; every one of them has to call it.
        workers: Loading processes of every process.

    Raises:
        LatentsMismatchError: The folder holds a cache of something else.
        CorruptLatentsError: The cache is damaged.
    """
    key = FeatureKey(
        encoder_sha256=encoder.sha256(),
        samples_sha256=split.samples.fingerprint(),
        samples=len(split.samples),
        versions=versions,
        seed=split.seed,
        stored_type="bfloat16" if encoder.dtype == torch.bfloat16 else "float32",
    )
    if world.is_main:
        claim(directory, key)
    world.barrier()
    claim(directory, key)
    cache = FeatureCache(directory, key)
    world.barrier()  # nobody writes while others still look at what there is
    everything = [(i, v) for v in range(versions) for i in range(len(split.samples))]
    mine = [entry for entry in everything[world.rank :: world.size] if entry not in cache]
    writer = FeatureWriter(directory, key, world.rank)
    uncached = Split(split.samples, split.seed)
    found = load_entries(uncached, mine, workers)
    bar = track(found, "encoding clips", total=len(mine), disable=not world.is_main or not mine)
    for entry, content in bar:
        if isinstance(content, Unread):
            writer.add_unreadable(entry, content.reason)
        else:
            writer.add(entry, encoded(content, encoder))
    writer.close()
    world.barrier()
    return Split(split.samples, split.seed, FeatureCache(directory, key))


def check_unreadable(unreadable: list[str], total: int, allowed: float) -> None:
    """Refuse a split of which too much cannot be read.

    Raises:
        DataError: Names the first ones.
    """
    if len(unreadable) > allowed * total or len(unreadable) == total:
        more = f"\n  and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
        raise DataError(
            f"{len(unreadable)} of {total} samples cannot be read (data.max_unreadable allows "
            f"{allowed:.0%}):\n  " + "\n  ".join(unreadable[:_SHOWN]) + more
        )


class _Entries(Dataset[Sample | Tensor | Unread]):
    """Entries as torch's loader wants them."""

    def __init__(self, split: Split, entries: list[Entry]) -> None:
        self._split = split
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: int) -> Sample | Tensor | Unread:
        return self._split.read(self._entries[place])
