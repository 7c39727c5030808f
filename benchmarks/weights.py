"""How long a published ViT-L file takes to load, and how much memory; `benchmarks.models` runs it.

Every way of loading has a process of its own: `python -m benchmarks.weights CASE FILE`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.checkpoint import load_encoder
from models.config import EncoderConfig, MaskPredictorConfig, vit_large
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor

_STATUS = Path("/proc/self/status")
_KIB = 1024


@dataclass(frozen=True)
class LoadRow:
    """One way of loading.

    Attributes:
        case: Its name.
        seconds: Time from the call to a network in memory [s].
        peak_bytes: Largest resident memory of the process while loading, less that before.
        peak_own_bytes: The part of it that is not pages of the file, which the system takes back
            where memory is short.
        network_bytes: What the loaded weights themselves take.
    """

    case: str
    seconds: float
    peak_bytes: int
    peak_own_bytes: int
    network_bytes: int


def write_file(path: Path, config: EncoderConfig) -> None:
    """Write a pretraining checkpoint as published: two encoders and a mask predictor, random weights."""
    masked = MaskPredictorConfig(grid_size=config.grid_size, embed_dim=config.embed_dim)
    encoder, averaged = (_draw(VisionTransformer, config) for _ in range(2))
    networks = {
        "encoder": encoder,
        "target_encoder": averaged,
        "predictor": _draw(MaskPredictor, masked),
    }
    checkpoint = {
        key: {f"module.backbone.{name}": value for name, value in network.state_dict().items()}
        for key, network in networks.items()
    }
    torch.save({**checkpoint, "epoch": 239}, path)


def load_plainly(path: Path) -> nn.Module:
    """Load as the published hub does: all of the file into memory, then copied into a drawn network."""
    network = VisionTransformer(vit_large())
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = {
        name.replace("module.", "").replace("backbone.", ""): value
        for name, value in checkpoint["target_encoder"].items()
    }
    network.load_state_dict(state, strict=False)
    return network


CASES: dict[str, Callable[[Path], nn.Module]] = {
    "published way, float32": load_plainly,
    "ours, float32": load_encoder,
    "ours, bfloat16": lambda path: load_encoder(path, dtype=torch.bfloat16),
}


def time_loading(path: Path) -> Iterator[LoadRow]:
    """Load a file in every way, each in a process of its own."""
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.weights", case, str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield LoadRow(case=case, **json.loads(output))


def _draw(kind: Callable[..., nn.Module], config: object) -> nn.Module:
    with torch.device("meta"):
        network = kind(config)
    network.to_empty(device="cpu")
    for weight in network.parameters():
        weight.data.normal_(std=0.02)
    return network


@contextmanager
def _watch_own_memory() -> Iterator[list[int]]:
    """Sample the memory of this process that no file backs [bytes]; the list is filled meanwhile."""
    samples = [_status_bytes("RssAnon")]
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(0.005):
            samples.append(_status_bytes("RssAnon"))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * _KIB
    return 0


def main() -> None:
    """Load one file in one way and print the measurements as JSON."""
    case, path = sys.argv[1], Path(sys.argv[2])
    before = _status_bytes("VmRSS")
    with _watch_own_memory() as own:
        started = time.monotonic()
        network = CASES[case](path)
        seconds = time.monotonic() - started
    peak = _status_bytes("VmHWM")  # getrusage would count the parent's peak in
    size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    measured = {
        "seconds": seconds,
        "peak_bytes": peak - before,
        "peak_own_bytes": max(own) - own[0],
        "network_bytes": size,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
