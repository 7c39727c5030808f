"""What is diagnosed, and the eyes that it is compared with.

An eye turns frames into tokens; three of them look at the same frames: the encoder, the same network with
random weights, and the pixels themselves. What the encoder learned is what it does better than these.

Letters in shapes: B frames, H and W pixels, N tokens, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoint import load_encoder, load_world_model, open_checkpoint
from models.config import EncoderConfig, FrameGeometry
from models.convert import holds_world_model
from models.encoder import VisionTransformer
from models.encoders import Encoder
from models.preprocess import preprocess_frames
from models.weights import frozen
from models.world_model import WorldModel
from training.latents import FrameEncoder

ENCODER, RANDOM, PIXELS = "encoder", "random weights", "pixels"

_PIXEL_SIDE: Final = 8  # of a patch of pixels; larger ones are averaged down to it
_AT_ONCE: Final = 32


class Eye(Protocol):
    """Turns frames into tokens."""

    def encode(self, frames: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, H, W, 3]` into tokens `[B, N, D]`."""
        ...


@dataclass(frozen=True)
class PixelEye:
    """Patches of the picture that an encoder would get, normalised and at most 8 x 8 pixels each.

    Attributes:
        img_size: Height and width that frames are brought to [px].
        patch_size: Side of a patch there [px].
        geometry: How frames are cropped.
    """

    img_size: tuple[int, int]
    patch_size: int
    geometry: FrameGeometry

    def encode(self, frames: Tensor) -> Tensor:
        """Cut frames into patches, `[B, N, 3 * 8 * 8]`."""
        pixels = preprocess_frames(frames, self.img_size, self.geometry)
        side = min(self.patch_size, _PIXEL_SIDE)
        rows, columns = (size // self.patch_size * side for size in self.img_size)
        pixels = F.adaptive_avg_pool2d(pixels, (rows, columns))
        return F.unfold(pixels, side, stride=side).transpose(1, 2)


@dataclass(frozen=True)
class Subject:
    """What is diagnosed.

    Attributes:
        source: Where it was loaded from.
        encoder: The encoder.
        geometry: How frames come to it.
        model: The world model that it belongs to; None: it is an encoder alone.
    """

    source: str
    encoder: Encoder
    geometry: FrameGeometry
    model: WorldModel | None

    @property
    def name(self) -> str:
        """The model's own name, or where it was loaded from."""
        return self.source if self.model is None else self.model.config.name

    def eyes(self) -> dict[str, Eye]:
        """Return the encoder and what it is compared with."""
        config = self.encoder.config
        eyes: dict[str, Eye] = {ENCODER: FrameEncoder(self.encoder, self.geometry)}
        if isinstance(config, EncoderConfig):
            device = next(self.encoder.parameters()).device
            twin = random_twin(config).to(device)
            eyes[RANDOM] = FrameEncoder(twin, self.geometry)
        eyes[PIXELS] = PixelEye(config.img_size, config.patch_size, self.geometry)
        return eyes


def random_twin(config: EncoderConfig, seed: int = 0) -> VisionTransformer:
    """Return an encoder of the same architecture that learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return frozen(VisionTransformer(config))


def load_subject(source: str, device: str | torch.device = "cpu") -> Subject:
    """Load a world model, or an encoder where there is no world model.

    Raises:
        ModelError: There is neither, or it cannot be read.
    """
    contents = open_checkpoint(source)
    if holds_world_model(contents):
        model = load_world_model(source, device)
        return Subject(source, model.encoder, model.config.frame_geometry, model)
    return Subject(source, load_encoder(source, device), "centre_square", None)


def look(eye: Eye, frames: Tensor) -> Tensor:
    """Return the tokens of many frames uint8 `[B, H, W, 3]`, `[B, N, D]` on the CPU."""
    return torch.cat([eye.encode(part).cpu() for part in torch.split(frames, _AT_ONCE)])
