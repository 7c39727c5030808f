"""Where rows of the log go besides the run folder's own tables: TensorBoard, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from training.config import TrackerName
from training.errors import ConfigurationError


class Tracker(Protocol):
    """Something that keeps named values by update."""

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a kind (training, validation) after `step` updates."""

    def close(self) -> None:
        """Hand over what is left."""


class TensorBoard:
    """Event files below the run folder."""

    def __init__(self, directory: Path) -> None:
        module = _require("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(directory / "tensorboard"))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add scalars."""
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `vjepa-planner`, continued where the run folder is."""

    def __init__(self, directory: Path, title: str) -> None:
        self._run = _require("wandb", "wandb").init(
            project="vjepa-planner",
            name=directory.name,
            id=f"{title}-{directory.name}",
            resume="allow",
            dir=str(directory),
        )

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log values."""
        self._run.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def open_tracker(name: TrackerName, directory: Path, title: str) -> Tracker:
    """Start a tracker for a run.

    Raises:
        ConfigurationError: Its package is not installed.
    """
    if name == "tensorboard":
        return TensorBoard(directory)
    return WeightsAndBiases(directory, title)


def _require(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"run.trackers names {package}, which is not installed; pip install {package}, or "
            "leave it out"
        ) from error
