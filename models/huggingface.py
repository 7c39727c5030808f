"""Weights that transformers' VJEPA2 classes wrote: folders of `config.json` and safetensors, and hub ids.

The networks are the published ones under other names, with queries, keys and values apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from torch import Tensor

from models.config import EncoderConfig
from models.contents import Contents
from models.errors import CheckpointNotFoundError, ConfigurationError
from models.model_folder import CONFIG_FILE, read_safetensors
from models.weights import State

MODEL_TYPE: Final = "vjepa2"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PROJECTIONS = ("query", "key", "value")
_BLOCK_PARTS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
# What transformers fixes in its code or cannot differ in here, by its name for it.
_FIXED = {"in_chans": 3, "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-6}


def is_hub_id(source: str) -> bool:
    """Tell whether a source has the form of a hub id, `owner/name`."""
    return _HUB_ID.fullmatch(source) is not None


def is_huggingface_folder(path: Path) -> bool:
    """Tell whether a folder holds a V-JEPA 2 model of transformers."""
    try:
        description = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and "model_type" in description


def fetch(hub_id: str) -> Path:
    """Download a model of the Hugging Face hub, or find it in the cache; return its folder.

    Raises:
        CheckpointNotFoundError: There is no such model, or no way to it, or transformers did not write it.
    """
    # Only who asks for a hub id needs the package.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(hub_id, allow_patterns=[CONFIG_FILE, "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointNotFoundError(
            f"{hub_id!r} is no file here and cannot be fetched from the Hugging Face hub: {error}"
        ) from error
    if not is_huggingface_folder(path):
        raise CheckpointNotFoundError(
            f"{hub_id!r} of the Hugging Face hub is no model of transformers: it has no {CONFIG_FILE} that names a "
            "model_type; download its weights, or give the URL of the file"
        )
    return path


def open_huggingface(path: Path) -> Contents:
    """Open a folder that transformers wrote.

    Raises:
        CheckpointNotFoundError: There are no safetensors in it.
        ConfigurationError: The model is not a V-JEPA 2 that this package can compute.
        CorruptCheckpointError: The weights cannot be read.
    """
    description = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    config = _encoder_config(description, path)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise CheckpointNotFoundError(
            f"{path} has no *.safetensors; fetch them, or save the model again with transformers"
        )
    stored: dict[str, Tensor] = {}
    for file in files:
        stored.update(read_safetensors(file))
    # A classifier keeps the model below `vjepa2.`.
    plain = {name.removeprefix("vjepa2."): value for name, value in stored.items()}
    encoder = {name: value for name, value in plain.items() if name.startswith("encoder.")}
    predictor = {name: value for name, value in plain.items() if name.startswith("predictor.")}
    networks: dict[str, State] = {"encoder": JoinedState(encoder_names(config.depth), encoder)}
    if predictor:
        networks["predictor"] = _mask_predictor(description, predictor, path)
    return Contents(
        source=str(path),
        layout="huggingface",
        networks=networks,
        config=config,
        harmless=tuple(name for name in plain if not name.startswith(("encoder.", "predictor."))),
        metadata={
            key: str(description[key])
            for key in ("architectures", "transformers_version")
            if key in description
        },
    )


class JoinedState(Mapping[str, Tensor]):
    """A state put together from stored tensors, each when it is asked for.

    Args:
        names: For every plain name the stored ones: one to take as it is, three to join along the
            first axis, or one with an index into its first axis behind `#`.
        stored: The stored tensors. Those that no plain name needs stay visible under their own.
    """

    def __init__(self, names: Mapping[str, tuple[str, ...]], stored: Mapping[str, Tensor]) -> None:
        self._stored = stored
        self._names = {
            plain: parts
            for plain, parts in names.items()
            if all(part.partition("#")[0] in stored for part in parts)
        }
        used = {part.partition("#")[0] for parts in self._names.values() for part in parts}
        self._names.update({name: (name,) for name in stored if name not in used})

    def __getitem__(self, name: str) -> Tensor:
        tensors = []
        for part in self._names[name]:
            stored, _, index = part.partition("#")
            tensors.append(self._stored[stored][int(index)] if index else self._stored[stored])
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def encoder_names(depth: int) -> dict[str, tuple[str, ...]]:
    """Return which of transformers' tensors make each of the encoder's; see `JoinedState`."""
    patches = "encoder.embeddings.patch_embeddings.proj"
    return {
        **{f"patch_embed.proj.{kind}": (f"{patches}.{kind}",) for kind in ("weight", "bias")},
        **_block_names("blocks", "encoder", depth),
        **{f"norm.{kind}": (f"encoder.layernorm.{kind}",) for kind in ("weight", "bias")},
    }


def predictor_names(depth: int, mask_tokens: int) -> dict[str, tuple[str, ...]]:
    """Return which of transformers' tensors make each of the mask predictor's; see `JoinedState`."""
    stored = "predictor.embeddings"
    names: dict[str, tuple[str, ...]] = {
        f"mask_tokens.{index}": (f"{stored}.mask_tokens#{index}",) for index in range(mask_tokens)
    }
    for kind in ("weight", "bias"):
        names[f"predictor_embed.{kind}"] = (f"{stored}.predictor_embeddings.{kind}",)
        names[f"predictor_norm.{kind}"] = (f"predictor.layernorm.{kind}",)
        names[f"predictor_proj.{kind}"] = (f"predictor.proj.{kind}",)
    return {**names, **_block_names("predictor_blocks", "predictor", depth)}


def _block_names(plain: str, stored: str, depth: int) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for block in range(depth):
        layer = f"{stored}.layer.{block}"
        for kind in ("weight", "bias"):
            for ours, theirs in _BLOCK_PARTS.items():
                names[f"{plain}.{block}.{ours}.{kind}"] = (f"{layer}.{theirs}.{kind}",)
            names[f"{plain}.{block}.attn.qkv.{kind}"] = tuple(
                f"{layer}.attention.{projection}.{kind}" for projection in _PROJECTIONS
            )
    return names


def _mask_predictor(
    description: Mapping[str, Any], stored: Mapping[str, Tensor], path: Path
) -> JoinedState:
    depth = description.get("pred_num_hidden_layers", 12)
    if not isinstance(depth, int):
        raise ConfigurationError(
            f"{path} has pred_num_hidden_layers = {depth!r}; expected a number"
        )
    masks = stored.get("predictor.embeddings.mask_tokens")
    return JoinedState(predictor_names(depth, 0 if masks is None else len(masks)), stored)


def _encoder_config(description: Mapping[str, Any], path: Path) -> EncoderConfig:
    if description.get("model_type") != MODEL_TYPE:
        raise ConfigurationError(
            f"{path} holds a model of type {description.get('model_type')!r}; expected {MODEL_TYPE!r}"
        )
    for key, value in _FIXED.items():
        if description.get(key, value) != value:
            raise ConfigurationError(
                f"{path} has {key} = {description[key]!r}; only {value!r} can be computed here"
            )
    try:
        return EncoderConfig(
            img_size=(description["crop_size"],) * 2,
            patch_size=description["patch_size"],
            num_frames=description["frames_per_clip"],
            tubelet_size=description["tubelet_size"],
            embed_dim=description["hidden_size"],
            depth=description["num_hidden_layers"],
            num_heads=description["num_attention_heads"],
            mlp_ratio=description["mlp_ratio"],
        )
    except (KeyError, ValidationError) as error:
        raise ConfigurationError(f"{path} is not a valid model description: {error}") from error
