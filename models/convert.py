"""Checkpoints from one layout to another, with every weight exact to the bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.checkpoint import load_encoder, load_world_model, open_checkpoint
from models.config import EncoderConfig, WorldModelConfig
from models.contents import Contents
from models.encoder import VisionTransformer
from models.errors import ConversionError
from models.model_folder import replace_file, save_encoder, save_world_model
from models.published import CONFIG_KEY, ENCODER_PREFIX, PREDICTOR_PREFIX
from models.weights import State
from models.world_model import WorldModel

Target = Literal["ours", "published"]


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    target: Target,
    encoder: str | os.PathLike[str] | None = None,
) -> WorldModel | VisionTransformer:
    """Read a checkpoint of any layout and write it in another; return what was written.

    Weights keep the type they are stored in.

    Args:
        source: See `models.checkpoint.open_checkpoint`.
        destination: A folder for `ours`, a `.pt` file for `published`.
        target: The layout to write.
        encoder: Source of the encoder, for files that hold the predictor alone (jepa-wms).

    Raises:
        ModelError: The source cannot be loaded; see `models.checkpoint`.
        ConversionError: The published code cannot compute this model, or `encoder` is passed for one
            without a predictor; the message says which.
    """
    contents = open_checkpoint(source)
    network: WorldModel | VisionTransformer
    if holds_world_model(contents):
        network = load_world_model(source, dtype=_stored_type(contents), encoder=encoder)
    elif encoder is not None:
        raise ConversionError(
            f"{contents.source} holds no action-conditioned predictor that an encoder could be added to; "
            "pass none"
        )
    else:
        network = load_encoder(source, dtype=_stored_type(contents))
    metadata = {**contents.metadata, "converted_from": contents.source}
    masked = None if isinstance(network, WorldModel) else contents.networks.get("predictor")
    if target == "published":
        save_published(network, destination, contents.metadata, masked)
    elif isinstance(network, WorldModel):
        save_world_model(network, destination, metadata)
    else:
        save_encoder(network, destination, metadata, mask_predictor=masked)
    return network


def holds_world_model(contents: Contents) -> bool:
    """Tell whether a checkpoint has an action-conditioned predictor."""
    if contents.config is not None and contents.layout == "ours":
        return isinstance(contents.config, WorldModelConfig)
    return "action_encoder.weight" in contents.networks.get("predictor", {})


def save_published(
    network: WorldModel | VisionTransformer,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    mask_predictor: State | None = None,
    online_encoder: State | None = None,
) -> None:
    """Write a `.pt` file that facebookresearch/vjepa2 loads with `strict=True`.

    Args:
        network: A world model, or an encoder alone.
        path: The file; written completely or not at all.
        metadata: Counters to write beside the weights: `epoch`, `loss`, `lr`, ...
        mask_predictor: Weights of the mask predictor that an encoder was pretrained with, under
            their plain names.
        online_encoder: Weights of the encoder that was trained, under their plain names, where
            `network` is its moving average; the same as `network` by default.

    Raises:
        ConversionError: The published code cannot compute this model; the message says why.
    """
    checkpoint: dict[str, Any] = {
        key: value for key, value in (metadata or {}).items() if isinstance(value, int | float)
    }
    checkpoint.setdefault("epoch", 0)
    config = network.config
    if isinstance(network, WorldModel):
        refuse_what_published_code_lacks(network.config)
        checkpoint["encoder"] = _wrap(network.encoder, ENCODER_PREFIX)
        checkpoint["predictor"] = _wrap(network.predictor, PREDICTOR_PREFIX)
        description = {"world_model": config.model_dump(mode="json")}
    else:
        refuse_what_published_code_lacks(network.config)
        checkpoint["encoder"] = _wrap(network, ENCODER_PREFIX)
        if mask_predictor is not None:
            checkpoint["predictor"] = {
                f"{ENCODER_PREFIX}{name}": mask_predictor[name] for name in mask_predictor
            }
        description = {"encoder": config.model_dump(mode="json")}
    checkpoint["target_encoder"] = dict(checkpoint["encoder"])  # the same tensors, written once
    if online_encoder is not None:
        checkpoint["encoder"] = {
            f"{ENCODER_PREFIX}{name}": online_encoder[name] for name in online_encoder
        }
    checkpoint[CONFIG_KEY] = json.dumps(description)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(path), lambda partial: torch.save(checkpoint, partial))


def refuse_what_published_code_lacks(config: WorldModelConfig | EncoderConfig) -> None:
    """Raise where facebookresearch/vjepa2 could load the weights, but not compute the same.

    Raises:
        ConversionError: There is such an option; all of them are named.
    """
    encoder = config.encoder if isinstance(config, WorldModelConfig) else config
    if not isinstance(encoder, EncoderConfig):
        raise ConversionError(
            f"the encoder is timm's {encoder.timm_model}, which the published layout does not hold; "
            "keep the model in our format"
        )
    lacking = []
    if encoder.rope is None:
        lacking.append("encoder.rope None (its table is a stored weight there, computed here)")
    if encoder.attention != "joint":
        lacking.append(f"encoder.attention {encoder.attention!r} (only 'joint' there)")
    if isinstance(config, WorldModelConfig):
        predictor = config.predictor
        if predictor.residual:
            lacking.append("predictor.residual (it would add nothing to the tokens there)")
        if not predictor.use_state:
            lacking.append("predictor.use_state False (there a state token is always present)")
        if predictor.rope != "vjepa2":
            lacking.append(f"predictor.rope {predictor.rope!r} (only 'vjepa2' there)")
    if lacking:
        raise ConversionError(
            "facebookresearch/vjepa2 cannot compute this model: it lacks " + "; ".join(lacking)
        )


def _wrap(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in network.state_dict().items()}


def _stored_type(contents: Contents) -> torch.dtype:
    """Return the one type of all weights; the widest where they differ."""
    states = contents.networks.values()
    types = {v.dtype for state in states for v in state.values() if v.is_floating_point()}
    widest = types.pop() if types else torch.float32
    for other in types:
        widest = torch.promote_types(widest, other)
    return widest
