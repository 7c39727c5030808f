"""The frozen encoder that a predictor is post-trained on: ours, a published one, or one of timm's."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from models.checkpoint import load_encoder, load_world_model, open_checkpoint
from models.config import TimmEncoderConfig, WorldModelConfig
from models.encoders import Encoder
from models.errors import CheckpointNotFoundError, CorruptCheckpointError
from models.timm_encoder import TimmEncoder, timm_config_for_grid
from models.weights import frozen

_TIMM = "timm:"


def load_frozen_encoder(source: str, grid_size: tuple[int, int]) -> Encoder:
    """Load an encoder to make tokens with: frozen, in evaluation mode, on the CPU.

    Args:
        source: What `open_checkpoint` takes; or `timm:NAME` for a vision transformer of timm with the weights
            that timm downloads, such as `timm:vit_small_patch14_dinov2.lvd142m`; or `timm:NAME=FILE` with the
            weights of a safetensors file, in timm's layout or that of their authors.
        grid_size: Rows and columns of patches that the predictor takes; decides the resolution of timm's
            encoders, the others bring their own.

    Raises:
        CheckpointNotFoundError: There is nothing at `source`, or no way to it.
        CorruptCheckpointError: The weights cannot be read, or hold no encoder.
        ConfigurationError: timm does not know the architecture, it makes no patch tokens, or the weights are not its
            own; or the configuration of a checkpoint cannot be read.
        MissingDependencyError: It is timm's and timm is not installed.
    """
    if source.startswith(_TIMM):
        name, _, file = source.removeprefix(_TIMM).partition("=")
        return _from_timm(name, grid_size, Path(file) if file else None)
    config = open_checkpoint(source).config
    if isinstance(config, WorldModelConfig) and isinstance(config.encoder, TimmEncoderConfig):
        return load_world_model(source).encoder
    return load_encoder(source)


def _from_timm(name: str, grid_size: tuple[int, int], file: Path | None) -> TimmEncoder:
    try:
        config = timm_config_for_grid(name, grid_size)
        if file is None:
            return frozen(TimmEncoder(config, pretrained=True))
    except OSError as error:  # what the network, the hub and its cache raise
        raise CheckpointNotFoundError(
            f"timm cannot fetch {name!r} ({error}); give a file of its weights: timm:{name}=FILE"
        ) from error
    if not file.is_file():
        raise CheckpointNotFoundError(f"{file} does not exist; give a safetensors file of {name}")
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpointError(
            f"{file} is no readable safetensors file ({error}); convert other files with "
            "safetensors.torch.save_file"
        ) from error
    return frozen(TimmEncoder(config, weights=weights))
