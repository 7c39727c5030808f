"""A small decoder from one frame's tokens to pixels, so that people can look at what a model imagines.

It is trained after everything else, on the frozen encoder's tokens, and nothing learns from it or plans
with it: what it draws is a guess at what the tokens mean, not evidence of what the model knows.
Letters in shapes: B frames, N tokens per frame, D channels, H and W pixels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, ValidationError, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import Self

from models.config import FrozenConfig, RopeFlavour, Size, TransformerConfig, WorldModelConfig
from models.encoder import CHANNELS
from models.errors import (
    CheckpointNotFoundError,
    ConfigurationError,
    InvalidInputError,
)
from models.layers import initialise, make_blocks, run_blocks
from models.model_folder import read_safetensors, replace_file
from models.rope import grid_rotary
from models.weights import cast, frozen, load_strictly, on_meta

DECODER_CONFIG: Final = "decoder.json"
DECODER_WEIGHTS: Final = "decoder.safetensors"

_FORMAT_VERSION: Final = 1
_WHITE: Final = 255.0
_GREY: Final = 0.5  # where drawing starts from


class DecoderConfig(TransformerConfig):
    """Transformer blocks over the tokens of a frame, then two steps from the grid to the image."""

    embed_dim: PositiveInt = Field(description="Channels of a token that comes in, D.")
    grid_size: Size = Field(description="Rows and columns of tokens.")
    img_size: Size = Field(description="Height and width of the image that comes out [px].")
    decoder_embed_dim: PositiveInt = Field(description="Channels inside the blocks.")
    rope: RopeFlavour = Field(default="vjepa2", description="Rotary embedding of the blocks.")

    @property
    def width(self) -> int:
        """Channels of a token inside the blocks."""
        return self.decoder_embed_dim

    @property
    def enlargements(self) -> tuple[int, int]:
        """How much wider each of the two steps makes the grid."""
        exponent = int(math.log2(self.img_size[0] // self.grid_size[0]))
        return 2 ** (exponent - exponent // 2), 2 ** (exponent // 2)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        factors = [side / rows for side, rows in zip(self.img_size, self.grid_size, strict=True)]
        if factors[0] != factors[1] or factors[0] < 1 or not math.log2(factors[0]).is_integer():
            raise ValueError(
                f"img_size {self.img_size} is not grid_size {self.grid_size} times a power of two"
            )
        return self


class PixelDecoder(nn.Module):
    """Draw the frame that tokens stand for."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder_embed = nn.Linear(config.embed_dim, config.width)
        self.decoder_blocks = make_blocks(config)
        self.decoder_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        first, second = config.enlargements
        channels = config.width // 4
        self.enlarge = nn.Conv2d(config.width, channels * first**2, kernel_size=1)
        self.smooth = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.to_pixels = nn.Conv2d(channels, CHANNELS * second**2, kernel_size=3, padding=1)
        self.refine = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1)
        initialise(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """Decode frames.

        Args:
            tokens: Layer-normed tokens `[B, N, D]`, of real frames or predicted ones.

        Returns:
            RGB `[B, 3, H, W]`; 0 is black and 1 white, values outside may occur.

        Raises:
            InvalidInputError: The tokens have another shape.
        """
        config = self.config
        rows, columns = config.grid_size
        if tokens.ndim != 3 or tokens.shape[1:] != (rows * columns, config.embed_dim):
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; this decoder takes [B, {rows * columns}, "
                f"{config.embed_dim}]"
            )
        x: Tensor = self.decoder_embed(tokens)
        rotary = grid_rotary(1, rows, columns, config.head_dim, x.dtype, x.device, config.rope)
        x = self.decoder_norm(run_blocks(self.decoder_blocks, x, rotary))
        x = x.transpose(1, 2).reshape(len(x), -1, rows, columns)
        first, second = config.enlargements
        x = F.gelu(F.pixel_shuffle(self.enlarge(x), first))
        x = x + F.gelu(self.smooth(x))
        coarse = F.pixel_shuffle(self.to_pixels(x), second)
        pixels: Tensor = coarse + self.refine(coarse) + _GREY
        return pixels

    @torch.inference_mode()
    def draw(self, tokens: Tensor) -> Tensor:
        """Decode frames `[B, N, D]` to uint8 RGB images `[B, H, W, 3]`."""
        weight = self.to_pixels.weight
        pixels = self(tokens.to(weight.device, weight.dtype)).float()
        image: Tensor = (pixels.clamp(0, 1) * _WHITE).round().byte().permute(0, 2, 3, 1)
        return image.contiguous()


class DecoderDescription(FrozenConfig):
    """What `decoder.json` holds."""

    format_version: int
    decoder: DecoderConfig
    metadata: dict[str, Any]


def save_decoder(
    decoder: PixelDecoder,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a decoder to a folder, which may be that of its world model.

    Args:
        decoder: The decoder.
        directory: The folder; made where it is missing.
        metadata: Where it comes from, the hash of its encoder among it; must be JSON.
        dtype: Type to store the weights in; as they are by default.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = decoder.state_dict()
    stored = {name: cast(state[name].detach(), "cpu", dtype).contiguous() for name in state}
    description = DecoderDescription(
        format_version=_FORMAT_VERSION, decoder=decoder.config, metadata=dict(metadata)
    )
    replace_file(directory / DECODER_WEIGHTS, lambda path: save_file(stored, path))
    text = json.dumps(description.model_dump(mode="json"), indent=2) + "\n"
    replace_file(directory / DECODER_CONFIG, lambda path: path.write_text(text))


def has_decoder(directory: str | os.PathLike[str]) -> bool:
    """Say whether a folder holds a decoder."""
    return (Path(directory) / DECODER_CONFIG).is_file()


def load_decoder(
    directory: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    world_model: WorldModelConfig | None = None,
) -> PixelDecoder:
    """Load a decoder, frozen.

    Args:
        directory: A folder that `save_decoder` wrote to.
        device: Where the weights shall live.
        dtype: Type of the weights in memory.
        world_model: The model whose tokens it shall draw; not compared by default.

    Raises:
        CheckpointNotFoundError: There is no decoder.
        ConfigurationError: Its configuration cannot be read, or it draws another model's tokens.
        CorruptCheckpointError: Its weights cannot be read.
        CheckpointMismatchError: Weights and configuration do not belong to each other.
    """
    directory = Path(directory)
    config = read_description(directory).decoder
    if world_model is not None:
        found = (config.grid_size, config.embed_dim)
        expected = (world_model.encoder.grid_size, world_model.encoder.embed_dim)
        if found != expected:
            raise ConfigurationError(
                f"the decoder in {directory} draws grids of {found[0]} tokens of {found[1]} "
                f"channels, {world_model.name} makes {expected[0]} of {expected[1]}; train one with "
                "`python -m training decoder`"
            )
    path = directory / DECODER_WEIGHTS
    if not path.is_file():
        raise CheckpointNotFoundError(f"no {DECODER_WEIGHTS} in {directory}; train it again")
    decoder = on_meta(partial(PixelDecoder, config))
    load_strictly(decoder, read_safetensors(path), str(path), device, dtype)
    return frozen(decoder)


def read_description(directory: Path) -> DecoderDescription:
    """Read what a decoder is and where it comes from.

    Raises:
        CheckpointNotFoundError: There is no decoder.
        ConfigurationError: Its description cannot be read, or is of another version.
    """
    path = directory / DECODER_CONFIG
    try:
        description = DecoderDescription.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"no {DECODER_CONFIG} in {directory}; train one with `python -m training decoder`"
        ) from error
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not a valid description: {error}") from error
    if description.format_version != _FORMAT_VERSION:
        raise ConfigurationError(
            f"{path} has format {description.format_version}, this version reads {_FORMAT_VERSION}"
        )
    return description
