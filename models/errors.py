"""Errors of the package; every message names the offending value and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SHOWN = 20  # keys listed per kind in a message; a wrong preset misses hundreds


class ModelError(Exception):
    """Base of everything `models` raises on purpose."""


class InvalidInputError(ModelError):
    """A tensor has the wrong shape, type or values for the network it was given to."""


class ProbeMismatchError(ModelError):
    """A probe met an encoder, a frame size or a list of classes that it was not trained for."""


class RopeMismatchError(ModelError):
    """Weights that learned with one rotary embedding met code or weights that use another."""


class MissingDependencyError(ModelError):
    """An optional package is needed for this and is not installed."""


class ConfigurationError(ModelError):
    """A stored configuration is unreadable, or has unknown or invalid keys."""


class CheckpointNotFoundError(ModelError):
    """There is no checkpoint where one was expected."""


class CorruptCheckpointError(ModelError):
    """A checkpoint is truncated, not a checkpoint, or carries more than tensors."""


class UnsafeCheckpointError(CorruptCheckpointError):
    """A checkpoint wants to import and run code when it is loaded."""


class ConversionError(ModelError):
    """A model has no equivalent in the layout it shall be converted to."""


class CheckpointMismatchError(ModelError):
    """A checkpoint does not hold exactly the weights of the configured network.

    Attributes:
        missing: Parameters of the network that the checkpoint lacks.
        unexpected: Entries of the checkpoint that the network has no place for.
        misshaped: Parameters whose shapes differ, each as "name: found [..], expected [..]".
    """

    def __init__(
        self,
        source: str,
        missing: Sequence[str],
        unexpected: Sequence[str],
        misshaped: Sequence[str],
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshaped = tuple(misshaped)
        lines = [
            f"  {len(keys)} {kind}: {_enumerate(keys)}"
            for kind, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", self.misshaped),
            )
            if keys
        ]
        super().__init__(
            f"{source} does not fit the configured network; choose the configuration that belongs "
            "to these weights\n" + "\n".join(lines)
        )


def require_finite(**values: Tensor) -> None:
    """Refuse tensors with numbers that are not finite.

    Raises:
        InvalidInputError: Names the first such tensor.
    """
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise InvalidInputError(
                f"{name}: {count} of {value.numel()} numbers are not finite; refuse them upstream"
            )


def _enumerate(keys: Sequence[str]) -> str:
    rest = f", ... and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + rest
