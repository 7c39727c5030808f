"""Training of the pixel decoder: frozen tokens of recorded frames in, those frames out.

It comes last, gives nothing back to the model, and is never asked while planning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.config import EncoderConfig, FrameGeometry, FrozenConfig, TimmEncoderConfig
from models.decoder import DecoderConfig, PixelDecoder, save_decoder
from models.model_folder import replace_file
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD, preprocess_frames
from training.config import TrainingRecipe
from training.episodes import LiveEpisodes
from training.errors import ConfigurationError
from training.frames import Frames, FrameSource
from training.latents import FrameEncoder
from training.loop import Training
from training.perceptual import PerceptualKind, PerceptualLoss, build_perceptual_loss
from training.windows import split_episodes

SAMPLES_FILE: Final = "decoder_samples.png"
STORED_TYPE: Final = torch.float16

_SHOWN: Final = 8
_VALIDATION: Final = 2**32  # no update has this number


class DecoderNetworkConfig(FrozenConfig):
    """Size of the decoder; the rest follows from the encoder."""

    decoder_embed_dim: PositiveInt = 256
    depth: PositiveInt = 3
    num_heads: PositiveInt = 4


class FrameDataConfig(FrozenConfig):
    """Which frames of which recordings."""

    path: Path | None = Field(default=None, description="Whatever `trajectories` reads.")
    row_period_s: PositiveFloat | None = Field(
        default=None, description="Thin recordings out to rows this far apart in real time [s]."
    )
    held_out: float = Field(
        default=0.05, gt=0, lt=1, description="Share of the episodes kept for validation."
    )
    max_bad: NonNegativeInt = Field(
        default=0, description="Unreadable episodes that are left out before the run is refused."
    )


class DecoderTrainingConfig(TrainingRecipe):
    """Training of a pixel decoder on the tokens of a frozen encoder."""

    encoder_from: str | None = Field(
        default=None, description="The frozen encoder: any source that `models` loads."
    )
    frame_geometry: FrameGeometry = "centre_square"
    decoder: DecoderNetworkConfig = DecoderNetworkConfig()
    data: FrameDataConfig = FrameDataConfig()
    perceptual: PerceptualKind = Field(
        default="encoder", description="What is added to the L1 distance of the pixels."
    )
    perceptual_weight: NonNegativeFloat = 0.1
    token_noise: NonNegativeFloat = Field(
        default=0.0,
        description="Standard deviation of noise on the tokens: predictions are less exact than the "
        "tokens of real frames.",
    )
    validation_frames: PositiveInt = 128

    def network(self, encoder: EncoderConfig | TimmEncoderConfig) -> DecoderConfig:
        """Return the decoder that belongs to an encoder.

        Raises:
            ConfigurationError: No decoder of this kind can draw its frames.
        """
        try:
            return DecoderConfig(
                embed_dim=encoder.embed_dim,
                grid_size=encoder.grid_size,
                img_size=encoder.img_size,
                **self.decoder.model_dump(),
            )
        except ValueError as error:
            raise ConfigurationError(f"no decoder for this encoder: {error}") from error


class DecoderNetwork(nn.Module):
    """The decoder with its loss; the frozen encoder stands beside it and is no part of its state."""

    def __init__(
        self,
        decoder: PixelDecoder,
        encoder: FrameEncoder,
        perceptual: PerceptualLoss | None,
        recipe: DecoderTrainingConfig,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self._encoder = encoder
        self._perceptual = perceptual
        self._recipe = recipe

    def forward(self, batch: Frames) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts."""
        tokens = given = self._encoder.encode(batch.frames)
        if self.training and self._recipe.token_noise:
            given = tokens + self._recipe.token_noise * torch.randn_like(tokens)
        drawn, true = self.decoder(given).float(), self.true_pixels(batch.frames)
        pixels = F.l1_loss(drawn, true)
        values = {"pixels": pixels, "psnr_db": -10 * torch.log10(F.mse_loss(drawn, true).detach())}
        if self._perceptual is None:
            return pixels, values
        values["perceptual"] = self._perceptual(drawn, true, tokens)
        return pixels + self._recipe.perceptual_weight * values["perceptual"], values

    def true_pixels(self, frames: Tensor) -> Tensor:
        """Return what the encoder sees of frames, `[B, 3, H, W]` in 0 to 1."""
        size = self._encoder.network.config.img_size
        pixels = preprocess_frames(frames, size, self._encoder.geometry)
        std = pixels.new_tensor(IMAGENET_STD).view(3, 1, 1)
        return pixels * std + pixels.new_tensor(IMAGENET_MEAN).view(3, 1, 1)

    def sheet(self, frames: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Draw frames and what the decoder makes of their tokens, one above the other."""
        true = (self.true_pixels(frames) * 255).round().byte().permute(0, 2, 3, 1).cpu()
        drawn = self.decoder.draw(self._encoder.encode(frames)).cpu()
        rows = [torch.cat(list(images), dim=1) for images in (true, drawn)]
        return torch.cat(rows).numpy()


class DecoderTraining(Training[Frames]):
    """Train a decoder; see `DecoderTrainingConfig`.

    Args:
        recipe: The recipe.
        encoder: The frozen encoder, on the device of the training.
        data: The recordings.

    Raises:
        ConfigurationError: No decoder can be built for the encoder.
        DataError: There is no frame to learn from.
    """

    network: DecoderNetwork
    title: ClassVar[str] = "decoder"
    score: ClassVar[str | None] = "loss"

    def __init__(
        self, recipe: DecoderTrainingConfig, encoder: FrameEncoder, data: LiveEpisodes
    ) -> None:
        device = next(encoder.network.parameters()).device
        self._recipe = recipe
        self._encoder = encoder
        self._device = device
        learned, held_out = split_episodes(data.episodes, recipe.data.held_out)
        self.source = FrameSource(data, learned, recipe.group_size, recipe.seed)
        self._held_out = FrameSource(data, held_out, recipe.group_size, recipe.seed)
        torch.manual_seed(recipe.seed)
        decoder = PixelDecoder(recipe.network(encoder.network.config))
        perceptual = build_perceptual_loss(recipe.perceptual, encoder, device)
        self.network = DecoderNetwork(decoder, encoder, perceptual, recipe)

    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002  always the same frames
        """Measure the loss on held-out frames."""
        groups = math.ceil(self._recipe.validation_frames / self._recipe.group_size)
        found = []
        for group in range(groups):
            loss, values = self.network(self._held_out(_VALIDATION, group).to(self._device))
            found.append({"loss": float(loss), **{name: float(v) for name, v in values.items()}})
        return {name: float(np.mean([values[name] for values in found])) for name in found[0]}

    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the decoder, and a picture of held-out frames with what it draws of them."""
        decoder = PixelDecoder(self._recipe.network(self._encoder.network.config))
        start = "decoder."
        decoder.load_state_dict({name.removeprefix(start): value for name, value in state.items()})
        origin = {"encoder_sha256": self._encoder.sha256(), **metadata}
        save_decoder(decoder, directory, origin, dtype=STORED_TYPE)
        frames = self._held_out(_VALIDATION, 0).frames[:_SHOWN]
        on_device = DecoderNetwork(decoder.to(self._device), self._encoder, None, self._recipe)
        image = Image.fromarray(on_device.eval().sheet(frames.to(self._device)))
        replace_file(directory / SAMPLES_FILE, lambda partial: image.save(partial, format="PNG"))
