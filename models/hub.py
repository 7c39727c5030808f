"""The published models by the names that they have on `torch.hub`; `hubconf.py` offers these.

Every entry point but the preprocessor returns an encoder and a predictor in evaluation mode and takes

    pretrained  load weights, strictly (default); without, networks are drawn at random
    weights     where from: anything that `models.checkpoint.open_checkpoint` takes; by default the
                published file, which is downloaded once
    device      where the networks shall live; `meta` takes no memory
    dtype       type of the weights in memory

Loaded networks are frozen; `requires_grad_()` opens them to training. Unlike the published entry
points these take no further options: one that is misspelt is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.checkpoint import Source, load_encoder, load_world_model, open_checkpoint
from models.config import (
    EncoderConfig,
    MaskPredictorConfig,
    vit_giant_xformers,
    vit_huge,
    vit_large,
)
from models.config import (
    vjepa2_ac_vit_giant as ac_config,
)
from models.encoder import VisionTransformer
from models.errors import ConfigurationError
from models.eval_transforms import preprocess_eval
from models.mask_predictor import MaskPredictor
from models.published import BASE_URL, FILES
from models.weights import frozen, load_strictly, on_meta

Frames = Tensor | NDArray[np.uint8] | Sequence[NDArray[np.uint8]]


def vjepa2_preprocessor(
    *,
    pretrained: bool = True,  # noqa: ARG001  the published one has it
    crop_size: int = 256,
) -> Callable[[Frames], list[Tensor]]:
    """Return the transform that published encoders are evaluated with.

    It takes the uint8 RGB frames of one clip `[T, H, W, 3]` and returns a list of one clip, float32
    `[3, T, crop_size, crop_size]`. `pretrained` changes nothing.
    """

    def preprocess(frames: Frames) -> list[Tensor]:
        clip = frames if isinstance(frames, Tensor) else torch.from_numpy(np.asarray(frames))
        return [preprocess_eval(clip, crop_size)]

    return preprocess


def vjepa2_vit_large(
    *,
    pretrained: bool = True,
    weights: Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VisionTransformer, MaskPredictor]:
    """V-JEPA 2 ViT-L at 256 px and its mask predictor."""
    source = _source("vjepa2_vit_large", weights, pretrained=pretrained)
    return _encoder_and_predictor(vit_large(), source, device, dtype)


def vjepa2_vit_huge(
    *,
    pretrained: bool = True,
    weights: Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VisionTransformer, MaskPredictor]:
    """V-JEPA 2 ViT-H at 256 px and its mask predictor."""
    source = _source("vjepa2_vit_huge", weights, pretrained=pretrained)
    return _encoder_and_predictor(vit_huge(), source, device, dtype)


def vjepa2_vit_giant(
    *,
    pretrained: bool = True,
    weights: Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VisionTransformer, MaskPredictor]:
    """V-JEPA 2 ViT-g at 256 px and its mask predictor."""
    source = _source("vjepa2_vit_giant", weights, pretrained=pretrained)
    return _encoder_and_predictor(vit_giant_xformers(), source, device, dtype)


def vjepa2_vit_giant_384(
    *,
    pretrained: bool = True,
    weights: Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VisionTransformer, MaskPredictor]:
    """V-JEPA 2 ViT-g at 384 px and its mask predictor."""
    source = _source("vjepa2_vit_giant_384", weights, pretrained=pretrained)
    return _encoder_and_predictor(vit_giant_xformers((384, 384)), source, device, dtype)


def vjepa2_ac_vit_giant(
    *,
    pretrained: bool = True,
    weights: Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[VisionTransformer, ACPredictor]:
    """V-JEPA 2-AC: ViT-g at 256 px and the action-conditioned predictor."""
    source = _source("vjepa2_ac_vit_giant", weights, pretrained=pretrained)
    if source is not None:
        model = load_world_model(source, device, dtype)
        if not isinstance(model.encoder, VisionTransformer):
            raise ConfigurationError(f"{source} holds no V-JEPA 2 encoder")
        return model.encoder, model.predictor
    with torch.device(device):
        encoder, predictor = (
            VisionTransformer(vit_giant_xformers()),
            ACPredictor(ac_config().predictor),
        )
    return encoder.to(dtype=dtype).eval(), predictor.to(dtype=dtype).eval()


def _source(name: str, weights: Source | None, *, pretrained: bool) -> Source | None:
    if not pretrained:
        return None
    return f"{BASE_URL}/{FILES[name]}" if weights is None else weights


def _encoder_and_predictor(
    config: EncoderConfig, source: Source | None, device: str | torch.device, dtype: torch.dtype
) -> tuple[VisionTransformer, MaskPredictor]:
    predictor_config = MaskPredictorConfig(grid_size=config.grid_size, embed_dim=config.embed_dim)
    if source is None:
        with torch.device(device):
            drawn = VisionTransformer(config), MaskPredictor(predictor_config)
        return drawn[0].to(dtype=dtype).eval(), drawn[1].to(dtype=dtype).eval()
    encoder = load_encoder(source, device, dtype)
    if encoder.config.model_copy(update={"num_frames": config.num_frames}) != config:
        raise ConfigurationError(
            f"{source} holds another encoder ({encoder.config}); expected {config}"
        )
    predictor = on_meta(partial(MaskPredictor, predictor_config))
    state = open_checkpoint(source).network("predictor")
    load_strictly(predictor, state, f"'predictor' in {source}", device, dtype)
    return encoder, frozen(predictor)
