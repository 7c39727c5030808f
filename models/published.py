"""The `.pt` files of facebookresearch/vjepa2 and jepa-wms: a dictionary of networks and counters.

Reading accepts tensors and plain values only, and never runs code from a file. Writing gives exactly
the names that the reference loads with `strict=True`.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from torch import Tensor

from models.config import EncoderConfig, WorldModelConfig
from models.contents import Contents
from models.errors import (
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    UnsafeCheckpointError,
)
from models.weights import HARMLESS_KEYS, State

BASE_URL: Final = "https://dl.fbaipublicfiles.com/vjepa2"
FILES: Final[Mapping[str, str]] = {
    "vjepa2_vit_large": "vitl.pt",
    "vjepa2_vit_huge": "vith.pt",
    "vjepa2_vit_giant": "vitg.pt",
    "vjepa2_vit_giant_384": "vitg-384.pt",
    "vjepa2_ac_vit_giant": "vjepa2-ac-vitg.pt",
}
"""The published files below `BASE_URL`, by the names of the published hub entry points."""

CONFIG_KEY: Final = "config"
"""Where files that we write keep their configuration, as JSON; the reference ignores it."""

ENCODER_PREFIX: Final = "module.backbone."
PREDICTOR_PREFIX: Final = "module."
"""Of action-conditioned predictors; mask predictors have the encoder's."""

# Wrappers (DistributedDataParallel, multi-sequence training) that left their names in the keys.
_WRAPPER_PREFIXES = ("module.", "backbone.")
_NETWORKS = ("encoder", "target_encoder", "ema_encoder", "predictor")
# jepa-wms calls the state `proprio`; the layer is the same.
_SYNONYMS = {
    "proprio_encoder.weight": "state_encoder.weight",
    "proprio_encoder.bias": "state_encoder.bias",
}
# What damaged pickles make torch raise, by trying thousands of them.
_DAMAGE = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


def open_published(path: str | os.PathLike[str]) -> Contents:
    """Open a published `.pt` file.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CorruptCheckpointError: The file is truncated, no checkpoint, or has no network.
        UnsafeCheckpointError: The file wants to import and run code.
        ConfigurationError: The file carries a configuration that cannot be read.
    """
    checkpoint = read_published(path)
    networks: dict[str, State] = {}
    prefixes: dict[str, str] = {}
    harmless: list[str] = []
    for key in _NETWORKS:
        if checkpoint.get(key) is None:
            continue
        networks[key] = published_state(checkpoint, key, path)
        names = list(checkpoint[key])
        prefixes[key] = names[0][: -len(_unwrap(names[0]))] if names else ""
        harmless += [f"{key}.{name}" for name in names if _unwrap(name) in HARMLESS_KEYS]
    if not networks:
        raise CorruptCheckpointError(
            f"{path} has no network; it has {sorted(map(str, checkpoint))}, expected at least one "
            f"of {sorted(_NETWORKS)}"
        )
    return Contents(
        source=str(path),
        layout="published",
        networks=networks,
        config=_read_config(checkpoint, path),
        prefixes=prefixes,
        harmless=tuple(harmless),
        metadata={
            key: value
            for key, value in checkpoint.items()
            if isinstance(value, int | float | str) and key != CONFIG_KEY
        },
    )


def read_published(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a published `.pt` file lazily, accepting nothing but tensors and plain values.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CorruptCheckpointError: The file is truncated, or no checkpoint.
        UnsafeCheckpointError: The file wants to import and run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"no checkpoint at {path}; download it, or pass a folder with config.json and "
            "model.safetensors"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGE as error:
        # The cause is chained, not quoted: torch advises there to let the file run its code.
        raise _refusal(path) from error
    if not isinstance(checkpoint, dict):
        raise CorruptCheckpointError(
            f"{path} holds a {type(checkpoint).__name__}; expected a dictionary of networks"
        )
    return checkpoint


def published_state(
    checkpoint: Mapping[str, Any], key: str, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """Return one network's tensors of a published checkpoint under their plain names.

    Raises:
        CorruptCheckpointError: The checkpoint has no such network, or it is not made of tensors, each
            under one name.
    """
    state = checkpoint.get(key)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in state.items()
    ):
        raise CorruptCheckpointError(
            f"{path} has no network {key!r}; it has {sorted(map(str, checkpoint))}"
        )
    plain: dict[str, Tensor] = {}
    for wrapped, value in state.items():
        name = _SYNONYMS.get(_unwrap(wrapped), _unwrap(wrapped))
        if name in plain:
            raise CorruptCheckpointError(
                f"{path} has {name!r} of network {key!r} under several names, {wrapped!r} among them; "
                "keep one of them"
            )
        if name not in HARMLESS_KEYS:
            plain[name] = value
    return plain


def _refusal(path: Path) -> CorruptCheckpointError:
    """Say why a file could not be read; it is only looked at, never run."""
    try:
        imports = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except _DAMAGE:
        imports = []
    if imports:
        return UnsafeCheckpointError(
            f"{path} is refused: loading it would import and run {', '.join(sorted(imports))}, and "
            "a checkpoint may hold tensors and plain values only; save its state dictionaries "
            "again without those objects, or download it again from its publisher"
        )
    return CorruptCheckpointError(
        f"{path} is no complete checkpoint of plain tensors: it is damaged, something else, or "
        "made to run code when it is loaded; download it again from its publisher"
    )


def _read_config(
    checkpoint: Mapping[str, Any], path: str | os.PathLike[str]
) -> WorldModelConfig | EncoderConfig | None:
    text = checkpoint.get(CONFIG_KEY)
    if not isinstance(text, str):
        return None
    try:
        description = json.loads(text)
        if "world_model" in description:
            return WorldModelConfig.model_validate(description["world_model"])
        return EncoderConfig.model_validate(description["encoder"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigurationError(f"{path} has an invalid configuration: {error}") from error


def _unwrap(name: str) -> str:
    """Strip the wrappers' prefixes from a parameter name, in any order."""
    while name.startswith(_WRAPPER_PREFIXES):
        name = name.partition(".")[2]
    return name
