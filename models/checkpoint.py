"""Weights from anywhere: one entry point for world models and one for encoders.

A source is a folder of ours, a published `.pt` file, a folder that transformers wrote, an id of the
Hugging Face hub, or a URL. Loading is strict in both directions and never runs code from a file: the
tensors of a checkpoint have to be exactly those of the configured network, or the error lists every
one that is not.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from models.ac_predictor import ACPredictor
from models.config import EncoderConfig, WorldModelConfig
from models.contents import Contents, EncoderKey
from models.download import download, is_url
from models.encoder import VisionTransformer
from models.errors import ConfigurationError
from models.huggingface import fetch, is_hub_id, is_huggingface_folder, open_huggingface
from models.identity import check_flavour, identify_encoder, identify_world_model
from models.model_folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    open_folder,
    save_encoder,
    save_world_model,
)
from models.published import open_published, published_state, read_published
from models.weights import fit_unused_layer, frozen, load_strictly, on_meta
from models.world_model import WorldModel

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "load_encoder",
    "load_published",
    "load_strictly",
    "load_world_model",
    "open_checkpoint",
    "published_state",
    "read_published",
    "save_encoder",
    "save_world_model",
]

Source = str | os.PathLike[str]
_Config = TypeVar("_Config", EncoderConfig, WorldModelConfig)


def open_checkpoint(source: Source) -> Contents:
    """Open a checkpoint of any kind, without reading its tensors.

    Args:
        source: A folder of ours or of transformers, a published `.pt` file, a hub id (`facebook/..`),
            or a URL of a published file; what is not here is downloaded once.

    Raises:
        CheckpointNotFoundError: There is nothing there.
        CorruptCheckpointError: The weights cannot be read.
        ConfigurationError: The checkpoint's own configuration cannot be read.
    """
    text = os.fspath(source)
    if is_url(text):
        return open_published(download(text))
    path = Path(text)
    # A mistyped path must not be asked for on the hub: its folder would be here.
    if isinstance(source, str) and is_hub_id(text) and not path.parent.exists():
        return open_huggingface(fetch(text))
    if path.is_dir():
        return open_huggingface(path) if is_huggingface_folder(path) else open_folder(path)
    return open_published(path)


def load_encoder(
    source: Source,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config: EncoderConfig | None = None,
    key: EncoderKey | None = None,
) -> VisionTransformer:
    """Load an encoder for features: frozen, in evaluation mode.

    Args:
        source: See `open_checkpoint`.
        device: Where the weights shall live.
        dtype: Type of the weights in memory, whatever they are stored in.
        config: What a `.pt` file holds, where it is not a published network. Other sources bring
            their own and take none.
        key: Which of several encoders to take; averaged weights before online ones by default.

    Raises:
        CheckpointNotFoundError: There is nothing at `source`.
        CorruptCheckpointError: The weights cannot be read, or hold no encoder.
        ConfigurationError: The configuration cannot be read, or does not belong to the weights.
        RopeMismatchError: The configuration names another rotary flavour than the weights learned.
        CheckpointMismatchError: The weights are not those of the configured network.
    """
    contents = open_checkpoint(source)
    chosen = key or contents.encoder_key()
    known = contents.config
    if isinstance(known, WorldModelConfig):
        if not isinstance(known.encoder, EncoderConfig):
            raise ConfigurationError(
                f"{source} holds timm's {known.encoder.timm_model}; load it as a world model"
            )
        known = known.encoder
    config = _decide(contents, known, config) or identify_encoder(contents, chosen)
    return _load_encoder(contents, chosen, config, device, dtype)


def load_world_model(
    source: Source,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config: WorldModelConfig | None = None,
    encoder: Source | None = None,
) -> WorldModel:
    """Load a world model for planning: frozen, in evaluation mode.

    Args:
        source: See `open_checkpoint`.
        device: Where the weights shall live.
        dtype: Type of the weights in memory, whatever they are stored in.
        config: What a `.pt` file holds, where it is not a published network. Other sources bring
            their own and take none.
        encoder: Source of the frozen encoder, for files that hold the predictor alone (jepa-wms).

    Raises:
        CheckpointNotFoundError: There is nothing at `source`.
        CorruptCheckpointError: The weights cannot be read, or hold no world model.
        ConfigurationError: The configuration cannot be read, or does not belong to the weights; or
            `encoder` is passed for a model of ours, which has its own.
        RopeMismatchError: The configuration names another rotary flavour than the weights learned.
        CheckpointMismatchError: The weights are not those of the configured network.
    """
    contents = open_checkpoint(source)
    known = contents.config
    if isinstance(known, EncoderConfig):
        raise ConfigurationError(
            f"{source} holds an encoder alone, no action-conditioned predictor; load it with "
            "load_encoder, or post-train a predictor on it"
        )
    config = _decide(contents, known, config) or identify_world_model(contents)
    if contents.layout == "ours":
        if encoder is not None:
            raise ConfigurationError(
                f"{source} holds its own encoder, which the predictor was trained on; pass none"
            )
        model = on_meta(partial(WorldModel, config))
        load_strictly(model, contents.network("world_model"), contents.source, device, dtype)
        return frozen(model)
    return _load_parts(contents, config, device, dtype, encoder)


def load_published(
    path: Source,
    config: WorldModelConfig,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> WorldModel:
    """Load a V-JEPA 2-AC checkpoint in the published layout; see `load_world_model`."""
    return _load_parts(open_published(path), config, device, dtype, None)


def _load_parts(
    contents: Contents,
    config: WorldModelConfig,
    device: str | torch.device,
    dtype: torch.dtype,
    encoder: Source | None,
) -> WorldModel:
    """Load encoder and predictor one after the other, each from where it is."""
    if any(name.startswith("mask_tokens.") for name in contents.network("predictor")):
        raise ConfigurationError(
            f"{contents.source} holds an encoder and a mask predictor, no action-conditioned "
            "predictor; load it with load_encoder, or post-train a predictor on it"
        )
    if not isinstance(config.encoder, EncoderConfig):
        raise ConfigurationError(
            f"{contents.source} is a published file; those hold no timm encoder "
            f"({config.encoder.timm_model})"
        )
    if encoder is None:
        # Both copies of a published world model are the same; it was post-trained on `encoder`.
        key: EncoderKey = "encoder" if "encoder" in contents.networks else contents.encoder_key()
        eyes = _load_encoder(contents, key, config.encoder, device, dtype)
    else:
        other = open_checkpoint(encoder)
        eyes = _load_encoder(other, other.encoder_key(), config.encoder, device, dtype)
    predictor = on_meta(partial(ACPredictor, config.predictor))
    state = fit_unused_layer(contents.network("predictor"), predictor)
    load_strictly(predictor, state, f"'predictor' in {contents.source}", device, dtype)
    return frozen(WorldModel(config, eyes, predictor))


def _load_encoder(
    contents: Contents,
    key: EncoderKey,
    config: EncoderConfig,
    device: str | torch.device,
    dtype: torch.dtype,
) -> VisionTransformer:
    state = contents.network(key)
    check_flavour(contents, key, config)
    encoder = on_meta(partial(VisionTransformer, config))
    load_strictly(encoder, state, f"{key!r} in {contents.source}", device, dtype)
    return frozen(encoder)


def _decide(contents: Contents, known: _Config | None, given: _Config | None) -> _Config | None:
    """Return the configuration that counts, where there is one."""
    if given is not None and contents.layout != "published":
        raise ConfigurationError(f"{contents.source} brings its own configuration; pass none")
    if given is not None and known is not None and given != known:
        changed = [name for name, value in known if getattr(given, name, None) != value]
        raise ConfigurationError(
            f"{contents.source} brings its own configuration, and the one passed differs in "
            f"{', '.join(changed)}; pass none"
        )
    return given or known
