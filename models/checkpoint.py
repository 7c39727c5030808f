"""Weights on disk: the published `.pt` files, and our own folders of `config.json` + safetensors.

Loading is strict in both directions and never runs code from a file: the tensors of a checkpoint
have to be exactly those of the configured network, or the error lists every one that is not.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from models.config import WorldModelConfig, vjepa2_ac_vit_giant
from models.encoder import VisionTransformer
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
)
from models.world_model import WorldModel

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1

PublishedKey = Literal["encoder", "target_encoder", "predictor"]

# Wrappers (DistributedDataParallel, multi-sequence training) that left their names in the keys.
_WRAPPER_PREFIXES = ("module.", "backbone.")
# Position tables of the variant without rotary embedding; older files carry them unused.
_HARMLESS_KEYS = frozenset({"pos_embed", "predictor_pos_embed"})


def load_world_model(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config: WorldModelConfig | None = None,
) -> WorldModel:
    """Load a world model for planning: frozen, in evaluation mode.

    Args:
        path: A folder that `save_world_model` wrote, or a published `.pt` file.
        device: Where the weights shall live.
        dtype: Type of the weights in memory, whatever they are stored in.
        config: What a `.pt` file holds; the published V-JEPA 2-AC by default. A folder brings its
            own and takes none.

    Raises:
        CheckpointNotFoundError: There is nothing at `path`.
        CorruptCheckpointError: The weights cannot be read.
        ConfigurationError: The folder's configuration cannot be read.
        CheckpointMismatchError: The weights are not those of the configured network.
    """
    path = Path(path)
    if path.is_dir():
        if config is not None:
            raise ConfigurationError(f"{path} brings its own configuration; pass none")
        return _load_folder(path, device, dtype)
    return load_published(path, config or vjepa2_ac_vit_giant(), device, dtype)


def load_published(
    path: str | os.PathLike[str],
    config: WorldModelConfig,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> WorldModel:
    """Load a V-JEPA 2-AC checkpoint in the published layout; see `load_world_model`."""
    with torch.device("meta"):  # the weights come from the file, so none are drawn
        encoder, predictor = VisionTransformer(config.encoder), ACPredictor(config.predictor)
    checkpoint = read_published(path)
    parts: tuple[tuple[nn.Module, PublishedKey], ...] = (
        (encoder, "encoder"),
        (predictor, "predictor"),
    )
    for network, key in parts:
        state = published_state(checkpoint, key, path)
        load_strictly(network, state, f"{key!r} in {path}", device, dtype)
    return _frozen(WorldModel(config, encoder, predictor))


def read_published(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a published `.pt` file lazily, accepting nothing but tensors and plain values.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CorruptCheckpointError: The file is truncated, no checkpoint, or holds other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"no checkpoint at {path}; download it, or pass a folder with {CONFIG_FILE} and "
            f"{WEIGHTS_FILE}"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        # The cause is chained, not quoted: torch advises there to let the file run its code.
        raise CorruptCheckpointError(
            f"{path} is no complete checkpoint of plain tensors: it is damaged, something else, or "
            "made to run code when it is loaded; download it again from its publisher"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CorruptCheckpointError(
            f"{path} holds a {type(checkpoint).__name__}; expected a dictionary of networks"
        )
    return checkpoint


def published_state(
    checkpoint: Mapping[str, Any], key: PublishedKey, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """Return one network's tensors of a published checkpoint under their plain names.

    Raises:
        CorruptCheckpointError: The checkpoint has no such network, or it is not made of tensors.
    """
    state = checkpoint.get(key)
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise CorruptCheckpointError(
            f"{path} has no network {key!r}; it has {sorted(map(str, checkpoint))}"
        )
    return {
        name: value
        for wrapped, value in state.items()
        if (name := _unwrap(wrapped)) not in _HARMLESS_KEYS
    }


def load_strictly(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Give a network exactly the weights in `state`, replacing its parameters.

    Args:
        network: The network; may live on the meta device.
        state: Every parameter of it, and nothing else.
        source: Where the weights come from, for the error.
        device: Where the weights shall live.
        dtype: Type of the weights in memory.

    Raises:
        CheckpointMismatchError: Names or shapes differ; all differences are listed.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshaped = [
        f"{name}: found {list(state[name].shape)}, expected {list(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointMismatchError(source, missing, unexpected, misshaped)
    # A copy, so that nothing keeps pointing into a memory-mapped file.
    weights = {name: value.to(device, dtype, copy=True) for name, value in state.items()}
    network.load_state_dict(weights, assign=True)


def save_world_model(
    model: WorldModel,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a world model to a folder, each file complete or not at all.

    Args:
        model: The model.
        directory: The folder; made where it is missing, files of an older model are replaced.
        metadata: What to keep about the origin of the weights; must be JSON.
        dtype: Type to store the weights in; as they are by default.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to("cpu", dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    description = {
        "format_version": FORMAT_VERSION,
        "world_model": model.config.model_dump(mode="json"),
        "metadata": dict(metadata or {}),
    }
    text = json.dumps(description, indent=2) + "\n"
    _replace(directory / WEIGHTS_FILE, lambda partial: save_file(weights, partial))
    _replace(directory / CONFIG_FILE, lambda partial: partial.write_text(text, encoding="utf-8"))


def _load_folder(path: Path, device: str | torch.device, dtype: torch.dtype) -> WorldModel:
    config = _read_config(path / CONFIG_FILE)
    weights = path / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointNotFoundError(
            f"{path} has no {WEIGHTS_FILE}; copy or train the model again"
        )
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise CorruptCheckpointError(
            f"{weights} is not readable; copy it again ({error})"
        ) from error
    with torch.device("meta"):
        model = WorldModel(config)
    load_strictly(model, state, str(weights), device, dtype)
    return _frozen(model)


def _read_config(path: Path) -> WorldModelConfig:
    if not path.is_file():
        raise CheckpointNotFoundError(f"no {CONFIG_FILE} in {path.parent}; is it a model folder?")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise ConfigurationError(
                f"{path} has format {version!r}, this version reads {FORMAT_VERSION}; "
                "use the version of this software that wrote it"
            )
        return WorldModelConfig.model_validate(description["world_model"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigurationError(f"{path} is not a valid model description: {error}") from error


def _unwrap(name: str) -> str:
    """Strip the wrappers' prefixes from a parameter name, in any order."""
    while name.startswith(_WRAPPER_PREFIXES):
        name = name.partition(".")[2]
    return name


def _frozen(model: WorldModel) -> WorldModel:
    return model.eval().requires_grad_(requires_grad=False)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one move."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.chmod(0o644)  # safetensors writes files that only their owner can read
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
