"""The world model as the service sees it: loaded, placed on its device, with the limits that apply to its actions."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import load_world_model
from models.decoder import PixelDecoder, has_decoder, load_decoder
from models.errors import ModelError
from models.world_model import WorldModel
from planner_server.errors import StartupError
from planner_server.planning import (
    Planner,
    PlanningError,
    Precision,
    RolloutEngine,
    RolloutSettings,
    engine_for,
    planners,
)
from planner_server.settings import Settings

logger = logging.getLogger(__name__)

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_TRANSLATION = slice(0, 3)
_CUDA_BATCH = 16
_WEIGHTS = "model.safetensors"
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model ready to be used, and what its users must know.

    Attributes:
        world_model: Encoder and predictor, in evaluation mode.
        engine: Imagines candidates with it.
        planners: The planners by name, with their configured options.
        name: What `welcome` and GET /v1/model call it.
        device: Where it runs.
        control_period_s: Time that one action takes [s].
        max_step: Box of every action `[7]` [m, rad, closedness]; 0 is never planned.
        sha256: Of the file with the weights, in hexadecimal.
        parameters: Number of weights.
        precision: float32, bfloat16 or float8, what the search multiplies.
        most_sessions: Sessions planned in one call.
        decoder: Draws tokens for people; None where the model's folder holds none.
    """

    world_model: WorldModel
    engine: RolloutEngine
    planners: dict[str, Planner]
    name: str
    device: torch.device
    control_period_s: float
    max_step: tuple[float, ...]
    sha256: str
    parameters: int
    precision: Precision
    most_sessions: int = 1
    decoder: PixelDecoder | None = None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that the model sees [px]."""
        return self.world_model.frame_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches that a frame is cut into."""
        return self.world_model.config.encoder.grid_size

    @torch.inference_mode()
    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Return the layer-normed tokens `[B, N, D]` of frames of one size, uint8 RGB `[B, H, W, 3]`."""
        tokens: Tensor = self.world_model.encode(torch.from_numpy(frames).to(self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # so that the time reported is the time taken
        return tokens


def load_served_model(settings: Settings) -> ServedModel:
    """Load the configured model and make the planners that search with it.

    Raises:
        StartupError: The device or the weights are not there, or do not fit.
    """
    device = _device(settings.device)
    path = settings.model.expanduser()
    if not path.exists():
        raise StartupError(_missing(path))
    try:
        model = load_world_model(path, device=str(device)).eval()
    except (ModelError, OSError, torch.OutOfMemoryError) as error:
        raise StartupError(f"the model in {path} cannot be loaded: {error}") from error
    config = model.config
    max_step = np.array(config.max_action)
    if settings.max_step_m is not None:
        max_step[_TRANSLATION] = np.minimum(max_step[_TRANSLATION], settings.max_step_m)
    precision = _fastest(device) if settings.precision == "auto" else settings.precision
    engine = _engine(model, precision, settings)
    return ServedModel(
        world_model=model,
        engine=engine,
        planners={
            name: planners.make(name, engine, chosen)
            for name, chosen in settings.planner_options().items()
        },
        name=config.name,
        device=device,
        control_period_s=settings.control_period_s or config.control_period_s,
        max_step=tuple(float(limit) for limit in max_step),
        sha256=_digest(path),
        parameters=sum(weights.numel() for weights in model.parameters()),
        precision=precision,
        # A CPU gains nothing from planning for several robots at once, and each would wait for all.
        most_sessions=settings.max_batch or (_CUDA_BATCH if device.type == "cuda" else 1),
        decoder=_decoder(path, model, device),
    )


def _decoder(path: Path, model: WorldModel, device: torch.device) -> PixelDecoder | None:
    """Load what draws this model's tokens; planning goes on without it."""
    if not has_decoder(path):
        return None
    try:
        return load_decoder(path, device=str(device), world_model=model.config)
    except (ModelError, OSError, torch.OutOfMemoryError) as error:
        logger.warning("nothing imagined will be drawn: the decoder in %s: %s", path, error)
        return None


def _digest(path: Path) -> str:
    """Return the SHA-256 of the weights, by which a record can be traced to them."""
    digest = hashlib.sha256()
    with (path / _WEIGHTS if path.is_dir() else path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _engine(model: WorldModel, precision: Precision, settings: Settings) -> RolloutEngine:
    batches = RolloutSettings(batch_size=settings.chunk_size)
    try:
        return engine_for(model, precision, compiled=settings.compiled, settings=batches)
    except PlanningError as error:
        raise StartupError(
            f"the search cannot compute as PLANNER_PRECISION says: {error}"
        ) from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise StartupError(f"device {name!r} does not exist; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise StartupError(
            f"device is {name!r} but torch sees no CUDA here; set PLANNER_DEVICE=cpu, "
            "or install a CUDA build of torch and check nvidia-smi"
        )
    return device


def _fastest(device: torch.device) -> Precision:
    """Return bfloat16 where it is computed by units of its own; elsewhere it would be emulated, slowly."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    try:
        flags = set(_CPU_INFO.read_text().split())
    except OSError:  # not Linux
        return "float32"
    return "bfloat16" if flags & _BFLOAT16_CPU_FLAGS else "float32"


def _missing(path: Path) -> str:
    return (
        f"there are no weights in {path.absolute()}. Point PLANNER_MODEL at a folder with config.json and "
        "model.safetensors or at a published .pt file, or make the shipped model with `make demo-model`"
    )
