"""Our own format: a folder of `config.json`, `model.safetensors` and a model card, every file whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from models.config import EncoderConfig, WorldModelConfig
from models.contents import Contents
from models.encoder import VisionTransformer
from models.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from models.model_card import CARD_FILE, MARK, model_card
from models.weights import State, cast
from models.world_model import WorldModel

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
FORMAT_VERSION: Final = 1


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
    _save(model.state_dict(), model.config, directory, metadata, dtype)


def save_encoder(
    encoder: VisionTransformer,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    mask_predictor: State | None = None,
) -> None:
    """Write an encoder to a folder, and the mask predictor that it was pretrained with, if any.

    Args:
        encoder: The encoder.
        directory: See `save_world_model`, as for the rest.
        metadata: Origin of the weights.
        dtype: Type to store the weights in.
        mask_predictor: Weights of the mask predictor under their plain names.
    """
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    for name in mask_predictor or ():
        weights[f"predictor.{name}"] = (mask_predictor or {})[name]
    _save(weights, encoder.config, directory, metadata, dtype)


def open_folder(path: Path) -> Contents:
    """Open a folder that `save_world_model` or `save_encoder` wrote.

    Raises:
        CheckpointNotFoundError: A file is missing.
        ConfigurationError: The configuration is invalid or of another version.
        CorruptCheckpointError: The weights cannot be read.
    """
    description, config = _read_config(path / CONFIG_FILE)
    if not (path / WEIGHTS_FILE).is_file():
        raise CheckpointNotFoundError(
            f"{path} has no {WEIGHTS_FILE}; copy or train the model again"
        )
    state = read_safetensors(path / WEIGHTS_FILE)
    networks: dict[str, State] = {}
    if isinstance(config, WorldModelConfig):
        networks["world_model"] = state
    for part in ("encoder", "predictor"):
        start = f"{part}."
        names = [name for name in state if name.startswith(start)]
        if names:
            networks[part] = {name.removeprefix(start): state[name] for name in names}
    return Contents(
        source=str(path / WEIGHTS_FILE),
        layout="ours",
        networks=networks,
        config=config,
        metadata=description.get("metadata", {}),
    )


def read_safetensors(path: Path) -> State:
    """Map a safetensors file into memory; its tensors are read when they are used.

    Raises:
        CorruptCheckpointError: The file is truncated or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpointError(f"{path} is not readable; copy it again ({error})") from error


def _save(
    weights: State,
    config: WorldModelConfig | EncoderConfig,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None,
    dtype: torch.dtype | None,
) -> None:
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    stored = {name: cast(weights[name].detach(), "cpu", dtype).contiguous() for name in weights}
    kind = "world_model" if isinstance(config, WorldModelConfig) else "encoder"
    description = {
        "format_version": FORMAT_VERSION,
        kind: config.model_dump(mode="json"),
        "metadata": dict(metadata or {}),
    }
    replace_file(directory / WEIGHTS_FILE, lambda partial: save_file(stored, partial))
    _replace_text(directory / CONFIG_FILE, json.dumps(description, indent=2) + "\n")
    card = directory / CARD_FILE
    if not card.exists() or card.read_text(encoding="utf-8").startswith(MARK):
        _replace_text(card, model_card(config, metadata or {}))


def _read_config(path: Path) -> tuple[Mapping[str, Any], WorldModelConfig | EncoderConfig]:
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
        if not isinstance(description.get("metadata", {}), dict):
            raise ConfigurationError(
                f"{path} has metadata {description['metadata']!r}; expected a JSON object"
            )
        if "encoder" in description:
            return description, EncoderConfig.model_validate(description["encoder"])
        return description, WorldModelConfig.model_validate(description["world_model"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigurationError(f"{path} is not a valid model description: {error}") from error


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one move.

    Readers, a kill and a power cut find the old file or the new one, never half of it. Several processes, of
    several machines even, may replace the same file at once; the last one counts.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        write(partial)
        partial.chmod(0o644)  # safetensors writes files that only their owner can read
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _replace_text(path: Path, text: str) -> None:
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
