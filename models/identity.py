"""Which published network a checkpoint holds, judged by the names and shapes of its tensors.

Shapes do not tell everything: the number of heads, the resolution of a rotary encoder and the rotary
flavour leave no trace in them, so only exact matches with known networks count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import nn

from models.ac_predictor import ACPredictor
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    MaskPredictorConfig,
    RopeFlavour,
    WorldModelConfig,
    vjepa2_ac_vit_giant,
)
from models.contents import Contents
from models.encoder import VisionTransformer
from models.errors import RopeMismatchError
from models.mask_predictor import MaskPredictor
from models.presets import ENCODER_PRESETS, vjepa2_ac_droid
from models.weights import Difference, State, compare, fit_unused_layer

NetworkConfig = EncoderConfig | ACPredictorConfig | MaskPredictorConfig

_RECIPES: Final[Mapping[type[NetworkConfig], type[nn.Module]]] = {
    EncoderConfig: VisionTransformer,
    ACPredictorConfig: ACPredictor,
    MaskPredictorConfig: MaskPredictor,
}
_LARGE_FRAMES = re.compile(r"(?<!\d)384(?!\d)")


def encoder_presets() -> dict[str, EncoderConfig]:
    """Return the known encoders by name."""
    return {name: build() for name, build in ENCODER_PRESETS.items()}


def world_model_presets() -> dict[str, WorldModelConfig]:
    """Return the published world models by name."""
    return {config.name: config for config in (vjepa2_ac_vit_giant(), vjepa2_ac_droid())}


def predictor_presets() -> dict[str, ACPredictorConfig | MaskPredictorConfig]:
    """Return the published predictors by name."""
    masked: dict[str, ACPredictorConfig | MaskPredictorConfig] = {
        f"mask predictor of {name}": MaskPredictorConfig(
            grid_size=config.grid_size, embed_dim=config.embed_dim
        )
        for name, config in encoder_presets().items()
        if config.norm_layers is None
    }
    return {
        **masked,
        **{name: config.predictor for name, config in world_model_presets().items()},
    }


@lru_cache(maxsize=32)
def blank(config: NetworkConfig) -> nn.Module:
    """Return a network on the meta device, to compare with; do not change it."""
    with torch.device("meta"):
        return _RECIPES[type(config)](config)


def differences(state: State, presets: Mapping[str, NetworkConfig]) -> dict[str, Difference]:
    """Return how a state differs from presets, the nearest first.

    Those of another width are left out, unless all are.
    """
    width = _width(state)
    alike = {name: config for name, config in presets.items() if config.width == width}
    found = {
        name: compare(blank(config), fit_unused_layer(state, blank(config)))
        for name, config in (alike or presets).items()
    }
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def identify_encoder(contents: Contents, key: str) -> EncoderConfig:
    """Return the published encoder that is nearest to the one in a checkpoint.

    The nearest need not fit: loading it strictly then says what is different. ViT-g at 256 and at
    384 px have the same weights; a file name with 384 in it decides, otherwise it is 256.
    """
    presets = encoder_presets()
    found = differences(contents.network(key), presets)
    least = len(next(iter(found.values())))
    nearest = [presets[name] for name, difference in found.items() if len(difference) == least]
    wide = bool(_LARGE_FRAMES.search(Path(contents.source).name))
    return next((config for config in nearest if (config.img_size[0] == 384) == wide), nearest[0])


def identify_world_model(contents: Contents) -> WorldModelConfig:
    """Return the published world model that is nearest to the one in a checkpoint."""
    presets = world_model_presets()
    predictors = {name: config.predictor for name, config in presets.items()}
    return presets[next(iter(differences(contents.network("predictor"), predictors)))]


def _width(state: State) -> int | None:
    """Return the channels of a token inside the blocks."""
    norm = next((name for name in state if name.endswith("blocks.0.norm1.weight")), None)
    return None if norm is None or not state[norm].ndim else state[norm].shape[0]


def rope_flavour(names: Iterable[str]) -> RopeFlavour:
    """Return the rotary flavour of a published encoder: hierarchical norms came with the second."""
    return "vjepa2_1" if any(name.startswith("norms_block.") for name in names) else "vjepa2"


def check_flavour(contents: Contents, key: str, config: EncoderConfig) -> None:
    """Refuse a configuration whose rotary flavour is not the one that the weights learned with.

    Raises:
        RopeMismatchError: The flavours differ.
    """
    known = contents.config
    if isinstance(known, WorldModelConfig):
        flavour = known.encoder.rope
    elif isinstance(known, EncoderConfig):
        flavour = known.rope
    else:
        flavour = rope_flavour(contents.network(key))
        if config.rope is None and any(name.endswith("pos_embed") for name in contents.harmless):
            return  # the table tells that it was learned without rotary embedding, or before it
    if config.rope != flavour:
        raise RopeMismatchError(
            f"{contents.source} was trained with rope {flavour!r}, the configuration says "
            f"{config.rope!r}; weights of one flavour mean nothing with another, so use {flavour!r}"
        )
