"""The world model as the service sees it: loaded, placed on its device, with the limits that apply to its actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import load_world_model
from models.errors import ModelError
from models.world_model import WorldModel
from planner_server.errors import StartupError
from planner_server.planning import Bfloat16Dynamics, Dynamics
from planner_server.settings import Settings

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_TRANSLATION = slice(0, 3)


@dataclass(frozen=True)
class ServedModel:
    """A model ready to be used, and what its users must know.

    Attributes:
        world_model: Encoder and predictor, in evaluation mode.
        name: What `welcome` and GET /v1/model call it.
        device: Where it runs.
        frame_size: Height and width it sees [px].
        control_period_s: Time that one action takes [s].
        max_step: Box of every action `[7]` [m, rad, closedness]; 0 is never planned.
        parameters: Number of weights.
        precision: float32 or bfloat16, what the search multiplies.
    """

    world_model: WorldModel
    name: str
    device: torch.device
    frame_size: tuple[int, int]
    control_period_s: float
    max_step: tuple[float, ...]
    parameters: int
    precision: str

    @property
    def dynamics(self) -> Dynamics:
        """The model as planners use it, in the configured precision."""
        if self.precision == "bfloat16":
            return Bfloat16Dynamics(self.world_model, self.device.type)
        return self.world_model

    @torch.inference_mode()
    def encode(self, frame: NDArray[np.uint8]) -> Tensor:
        """Return the layer-normed tokens `[1, N, D]` of one frame, uint8 RGB `[H, W, 3]` of any size."""
        tokens: Tensor = self.world_model.encode(torch.from_numpy(frame)[None].to(self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # so that the time reported is the time taken
        return tokens


def load_served_model(settings: Settings) -> ServedModel:
    """Load the configured model.

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
    return ServedModel(
        world_model=model,
        name=config.name,
        device=device,
        frame_size=model.frame_size,
        control_period_s=settings.control_period_s or config.control_period_s,
        max_step=tuple(float(limit) for limit in max_step),
        parameters=sum(weights.numel() for weights in model.parameters()),
        precision=_fastest_precision(device)
        if settings.precision == "auto"
        else settings.precision,
    )


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


def _fastest_precision(device: torch.device) -> str:
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
