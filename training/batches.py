"""Batches by their number: what update s, group g consists of is a function of seed, s and g.

Nothing has to be remembered to continue a run, and it does not matter which process, or which of
its loading processes, makes a group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import Self

from training.config import TrainingRecipe
from training.distributed import World
from training.errors import ResumeError


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Base of what sources make: a frozen dataclass of tensors, tuples and such dataclasses.

    Attributes:
        names: Where every sample came from, for messages.
        skipped: Samples that could not be read and were replaced by others, with the reason.
    """

    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Self:
        """Copy all tensors to a device."""
        moved: Self = _map(self, lambda tensor: tensor.to(device, non_blocking=True))
        return moved

    def pin_memory(self) -> Self:
        """Copy all tensors to where a GPU can fetch them."""
        pinned: Self = _map(self, lambda tensor: tensor.pin_memory())
        return pinned


BatchT = TypeVar("BatchT", bound=Batch)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class BatchSource(Protocol[BatchT_co]):
    """Makes groups of samples; it is copied into loading processes, so it must be picklable."""

    def __call__(self, step: int, group: int) -> BatchT_co:
        """Make group `group` of the batch of update `step` (both from 0); always the same one."""
        ...


def load_batches(
    source: BatchSource[BatchT], recipe: TrainingRecipe, world: World, first: int
) -> Iterator[list[tuple[int, BatchT]]]:
    """Make the batches of a run one after the other, ahead of time where processes are free.

    Args:
        source: Makes groups.
        recipe: Says how many.
        world: The processes; each makes its own groups.
        first: The update to start with (from 0).

    Yields:
        The groups that this process has in an update, each with its number.

    Raises:
        ResumeError: The groups cannot be shared evenly.
    """
    check_world(recipe, world, first)
    keys = _Keys(recipe, world, first)
    workers = recipe.run.workers
    loader = DataLoader(
        _Keyed(source),
        sampler=keys,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        persistent_workers=bool(workers),
        pin_memory=world.device.type == "cuda",
        generator=torch.Generator().manual_seed(recipe.seed),
        # A fork would copy locks that the threads of torch and of video decoders may hold.
        multiprocessing_context="forkserver" if workers else None,
    )
    made = iter(loader)
    for step in range(first, recipe.steps):
        yield [(group, next(made)) for group in keys.of(step)]


def check_world(recipe: TrainingRecipe, world: World, first: int = 0) -> None:
    """Refuse a number of processes that cannot share every batch evenly.

    Raises:
        ResumeError: There is such a batch.
    """
    for groups in sorted({recipe.groups(step) for step in range(first, recipe.steps)}):
        if groups % world.size:
            allowed = [size for size in range(1, groups + 1) if groups % size == 0]
            raise ResumeError(
                f"{world.size} processes cannot share {groups} groups of {recipe.group_size} "
                f"samples; start {', '.join(map(str, allowed))}, or change micro_batch_size in a "
                "new run"
            )


def seed_of(*numbers: int) -> int:
    """Mix numbers into a seed; any change of any number gives another one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _Keys(Sampler[tuple[int, int]]):
    """The numbers of all groups that a process has to make, in order."""

    def __init__(self, recipe: TrainingRecipe, world: World, first: int) -> None:
        self._recipe = recipe
        self._world = world
        self._first = first

    def of(self, step: int) -> range:
        return range(self._world.rank, self._recipe.groups(step), self._world.size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for step in range(self._first, self._recipe.steps):
            for group in self.of(step):
                yield step, group


class _Keyed(Dataset[BatchT]):
    """A source as torch's loader wants it."""

    def __init__(self, source: BatchSource[BatchT]) -> None:
        self._source = source

    def __getitem__(self, key: tuple[int, int]) -> BatchT:
        return self._source(*key)


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change all tensors in a tree of dataclasses and tuples."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map(item, change) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            item.name: _map(getattr(value, item.name), change) for item in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changed)
    return value
