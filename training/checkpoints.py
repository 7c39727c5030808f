"""Checkpoints to continue from: every parameter and the optimiser, whole or not at all.

`torch.distributed.checkpoint` lets every process write its shard. A checkpoint is written beside
its place and renamed when all of it is on disk, so that a kill or a power cut at any moment leaves the
previous one intact. No random state is stored: all randomness is a function of seed, update and
group (see `training.loop`).
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from models.model_folder import replace_file
from training.distributed import World
from training.errors import ResumeError
from training.optimiser import blank_state, optimiser_state, restore_state
from trajectories.storage import publish_folder

_UNREADABLE = (CheckpointException, RuntimeError, ValueError, KeyError, OSError, EOFError)
_STATE_FILE = "state.json"
_NETWORK = "network"
_OPTIMISER = "optimiser"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Updates that were made.
        best_step: Update after which validation was best; None: there was no validation.
        best_score: Its score; lower is better.
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None


class Checkpoints:
    """The checkpoints of a run: `step-00001000/` and so on, the last few and the best.

    Args:
        directory: Where they live.
        world: Who writes them.
        keep_last: How many are kept besides the best one.
    """

    def __init__(self, directory: Path, world: World, keep_last: int) -> None:
        self._directory = directory
        self._world = world
        self._keep_last = keep_last

    def save(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
    ) -> None:
        """Write a checkpoint; every process has to call it."""
        final = checkpoint_path(self._directory, progress.step)
        partial = final.with_suffix(_PARTIAL)
        if self._world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._world.barrier()
        state = {_NETWORK: network.state_dict(), _OPTIMISER: optimiser_state(network, optimiser)}
        with _quiet():
            save(state, checkpoint_id=partial, no_dist=not dist.is_initialized())
        if self._world.is_main:
            (partial / _STATE_FILE).write_text(json.dumps(asdict(progress)))
            publish_folder(partial, final)
            self._remove_old(progress)
        self._world.barrier()

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
        """Load the newest checkpoint, if there is one; every process has to call it.

        Raises:
            ResumeError: The checkpoint does not fit, or is damaged.
        """
        path = latest_checkpoint(self._directory)
        if path is None:
            return Progress()
        load_checkpoint(path, network, optimiser)
        return read_progress(path)

    def _remove_old(self, progress: Progress) -> None:
        """Remove what is not kept, and what earlier processes that were killed left half-written."""
        kept = [progress.step]
        paths = _complete(self._directory)
        kept += [_step(path) for path in paths[-self._keep_last :]]
        for path in self._directory.glob(f"step-*{_PARTIAL}"):
            shutil.rmtree(path)
        for path in paths:
            if _step(path) not in kept and _step(path) != progress.best_step:
                # Half of one must not pass for a whole, should this process end here.
                shutil.rmtree(path.rename(path.with_suffix(_PARTIAL)))


def latest_checkpoint(directory: Path) -> Path | None:
    """Return the newest complete checkpoint below a folder."""
    return next(reversed(_complete(directory)), None)


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return where the checkpoint after `step` updates lives."""
    return directory / f"step-{step:08d}"


def read_progress(path: Path) -> Progress:
    """Read where a run stood when it wrote a checkpoint.

    Raises:
        ResumeError: The checkpoint is damaged.
    """
    try:
        return Progress(**json.loads((path / _STATE_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ResumeError(
            f"{path} is damaged ({error}); remove it to use the one before"
        ) from error


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> None:
    """Load parameters, and the optimiser's state where one is given, in place.

    The number of processes may differ from the one that wrote it.

    Raises:
        ResumeError: The checkpoint does not fit, or is damaged.
    """
    try:
        state: dict[str, Any] = {_NETWORK: network.state_dict()}
        if optimiser is not None:
            state[_OPTIMISER] = blank_state(network, _stored(path, _OPTIMISER))
        with _quiet():
            load(state, checkpoint_id=path, no_dist=not dist.is_initialized())
    except _UNREADABLE as error:
        raise ResumeError(
            f"{path} cannot be loaded: it is damaged, or belongs to other networks ({error}); "
            "remove it, or write to another folder"
        ) from error
    network.load_state_dict(state[_NETWORK])
    if optimiser is not None:
        restore_state(network, optimiser, state[_OPTIMISER])


def read_networks(path: Path) -> dict[str, Tensor]:
    """Read all parameters of a checkpoint into one process, however many wrote it.

    Raises:
        ResumeError: The checkpoint is damaged.
    """
    try:
        stored = _stored(path, _NETWORK)
        state = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in stored.items()
        }
        with _quiet():
            load({_NETWORK: state}, checkpoint_id=path, no_dist=True)
    except _UNREADABLE as error:
        raise ResumeError(f"{path} is damaged ({error}); use another checkpoint") from error
    return state


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, completely or not at all."""
    text = json.dumps(content, indent=1) + "\n"
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning that a single process saves for itself: it is meant to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _stored(path: Path, part: str) -> dict[str, TensorStorageMetadata]:
    """Describe the tensors that a checkpoint holds of the networks or of the optimiser."""
    entries = FileSystemReader(path).read_metadata().state_dict_metadata
    return {
        name.removeprefix(f"{part}."): entry
        for name, entry in entries.items()
        if name.startswith(f"{part}.") and isinstance(entry, TensorStorageMetadata)
    }


def _complete(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if path.suffix != _PARTIAL)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
