"""What the networks cost: time and peak memory of encoding, predicting and loading, against the published way.

`python -m benchmarks.models` takes under two minutes on two cores, with small networks; where there is CUDA
it takes ViT-g and the published predictor. The published way is written out in `benchmarks.reference_path`;
both are given the same weights, and the largest difference of their results is in the table. Encoding starts
from normalised pixels. Peak memory is what a call adds to what was there before it. Times are medians.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import memory, reference_path
from benchmarks.hardware import hardware
from benchmarks.weights import LoadRow, time_loading, write_file
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    WorldModelConfig,
    vit_large,
    vjepa2_ac_vit_giant,
)
from models.encoder import VisionTransformer
from models.world_model import WorldModel, normalise

RESULTS = Path("benchmarks/results")
BATCHES = (1, 16, 128)
FULL_BATCH = 800  # candidates of the published search
BASELINE = "published way, float32"

_CLIP_FRAMES = 64
_TIME_S = 1.0  # no further call of a row is begun after this
_CALLS = 5
_MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One way of doing one thing.

    Attributes:
        work: What is done.
        way: How: the published way, or ours in some precision.
        seconds: Median time of a call [s].
        calls: Calls that were timed.
        peak_bytes: Memory that a call adds at most.
        difference: Largest difference of the result from the published way's.
    """

    work: str
    way: str
    seconds: float
    calls: int
    peak_bytes: int
    difference: float


@dataclass(frozen=True)
class Work:
    """Something to time: its name, its inputs, and the two ways of doing it."""

    name: str
    inputs: tuple[Tensor, ...]
    plainly: Callable[..., Tensor]
    ours: Callable[..., Tensor]


def small_world_model() -> WorldModelConfig:
    """Return a world model that a CPU can try at the published resolution: ViT-Ti, 6 blocks."""
    return WorldModelConfig(
        name="small",
        encoder=EncoderConfig(embed_dim=192, depth=12, num_heads=3),
        predictor=ACPredictorConfig(embed_dim=192, predictor_embed_dim=192, depth=6, num_heads=6),
        control_period_s=1.0,
        max_step_m=0.075,
    )


def time_networks(model: WorldModel, batches: Sequence[int]) -> Iterator[Row]:
    """Time encoder and predictor in every way."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    for work in _works(model, batches):
        expected, row = _measure(work.name, BASELINE, partial(work.plainly, *work.inputs))
        yield row
        for way, network in (("ours, float32", model), ("ours, bfloat16", half)):
            result, row = _measure(work.name, way, partial(work.ours, network, *work.inputs))
            yield replace(row, difference=float((result.float() - expected).abs().max()))


def _works(model: WorldModel, batches: Sequence[int]) -> Iterator[Work]:
    """Describe what is timed."""
    encoder, config = model.encoder, model.config.encoder
    assert isinstance(encoder, VisionTransformer)
    assert isinstance(config, EncoderConfig)
    device = next(model.parameters()).device
    random = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=random, device=device)
    size = config.img_size
    plainly = partial(reference_path.encode_frames, encoder)
    yield Work("encode 1 frame", (draw(1, 3, *size),), plainly, _encode_frame)
    plainly = partial(reference_path.encode, encoder)
    clip = draw(1, 3, _CLIP_FRAMES, *size)
    yield Work(f"encode {_CLIP_FRAMES}-frame clip", (clip,), plainly, _encode_clip)
    plainly = partial(reference_path.predict, model.predictor)
    for frames in (1, 2):
        for batch in batches:
            tokens = normalise(draw(batch, frames * model.tokens_per_frame, model.embed_dim))
            inputs = (tokens, 0.1 * draw(batch, frames, 7), 0.3 * draw(batch, frames, 7))
            yield Work(f"AC step, T {frames}, B {batch}", inputs, plainly, WorldModel.step)


def _encode_frame(model: WorldModel, pixels: Tensor) -> Tensor:
    """Do what `WorldModel.encode` does after its preprocessing."""
    tubelet = model.config.encoder.frames_per_image
    return normalise(_encode_clip(model, pixels.unsqueeze(2).expand(-1, -1, tubelet, -1, -1)))


def _encode_clip(model: WorldModel, clip: Tensor) -> Tensor:
    tokens: Tensor = model.encoder(clip.to(next(model.parameters()).dtype))
    return tokens


def _measure(work: str, way: str, do: Callable[[], Tensor]) -> tuple[Tensor, Row]:
    """Call once to warm up and to see the memory, then until there are enough times.

    A call that takes long by itself needs no warming up: its first time counts.
    """
    with torch.inference_mode():
        before = memory.reset_peak()
        result, seconds = _time(do)
        peak = memory.peak() - before
        times = [seconds] if seconds > _TIME_S else []
        begun = time.monotonic()
        while len(times) < _CALLS and time.monotonic() - begun < _TIME_S and seconds <= _TIME_S:
            times.append(_time(do)[1])
    return result, Row(work, way, statistics.median(times), len(times), max(peak, 0), 0.0)


def _time(do: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.monotonic()
    result = do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.monotonic() - started


def measure_loading() -> Iterator[LoadRow]:
    """Time the loading of a published ViT-L file with random weights, which is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vitl.pt"
        write_file(path, vit_large())
        yield from time_loading(path)


def print_tables(rows: Sequence[Row], loads: Sequence[LoadRow], title: str) -> None:
    """Print one line per row."""
    console = Console(width=120)
    table = Table(
        title=title, caption="T: frames of context; faster: times, than the published way"
    )
    for name in ("what", "way", "calls", "time", "faster", "peak memory", "difference"):
        table.add_column(name, justify="left" if name in ("what", "way") else "right", no_wrap=True)
    baselines = {row.work: row.seconds for row in rows if row.way == BASELINE}
    for row in rows:
        table.add_row(
            row.work if row.way == BASELINE else "",
            row.way,
            str(row.calls),
            f"{1e3 * row.seconds:,.1f} ms",
            f"{baselines[row.work] / row.seconds:.1f}",
            f"{row.peak_bytes / _MIB:,.0f} MiB",
            f"{row.difference:.1e}",
            end_section=row.way.endswith("bfloat16"),
        )
    console.print(table)
    if not loads:
        return
    table = Table(title="load the encoder of a published ViT-L file (in the page cache)")
    for name in ("way", "time", "weights", "peak RSS", "without file pages"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for load in loads:
        sizes = (load.network_bytes, load.peak_bytes, load.peak_own_bytes)
        table.add_row(
            load.case, f"{load.seconds:.2f} s", *(f"{size / _MIB:,.0f} MiB" for size in sizes)
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write `benchmarks/results/models.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"also B {FULL_BATCH}; minutes longer")
    parser.add_argument("--quick", action="store_true", help="only B 1, no file; for tests")
    parser.add_argument("--output", type=Path, default=RESULTS / "models.json")
    options = parser.parse_args(arguments)
    started, load_before = time.monotonic(), os.getloadavg()[0]
    torch.manual_seed(0)
    has_cuda = torch.cuda.is_available()
    config = vjepa2_ac_vit_giant() if has_cuda else small_world_model()
    with torch.device("cuda" if has_cuda else "cpu"):
        model = WorldModel(config).eval().requires_grad_(requires_grad=False)
    batches = BATCHES[:1] if options.quick else (*BATCHES, *([FULL_BATCH] if options.full else []))
    rows = list(time_networks(model, batches))
    loads = [] if options.quick else list(measure_loading())
    print_tables(rows, loads, f"{config.name} on {hardware()}")
    document: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.models", *(arguments or sys.argv[1:])]),
        "hardware": hardware(),
        "load_before": load_before,
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "elapsed_s": round(time.monotonic() - started),
        "model": config.model_dump(mode="json"),
        "rows": [asdict(row) for row in rows],
        "loading": [asdict(load) for load in loads],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    if load_before > (os.cpu_count() or 1) / 4:
        print(f"the machine was busy before (load {load_before:.1f}): repeat it on an idle one")
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
