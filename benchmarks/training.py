"""What training costs: time and memory of an update, loading, and two processes against one.

`python -m benchmarks.training` takes about five minutes on two cores, with networks of the shipped model's
size; where there is CUDA it takes ViT-g and the published predictor, and ViT-L for pretraining. Every way
runs in a process of its own; peak memory is what that process adds to what it had before its networks. The
published procedure is written out in `benchmarks.reference_training`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.hardware import hardware
from benchmarks.training_sizes import Size, published, small
from benchmarks.training_updates import FRAMES
from benchmarks.training_ways import WAYS, Row, measure, write_cache
from models.encoder import VisionTransformer
from models.model_folder import save_encoder
from training.clips import ClipSource
from training.cost import PEAK_FLOPS
from training.episodes import CachedEpisodes, Episodes, LiveEpisodes
from training.log import read_table
from training.pretrain_config import PretrainConfig
from training.recordings import ShardRecordings
from training.windows import WindowSampler, WindowSettings
from trajectories.shards import ShardWriter, open_shards

RESULTS = Path("benchmarks/results")
_MIB = 2**20
_BUDGET_S = 15.0
_RANKS = (1, 2)
_SCALED_STEPS = 24
_SCALED_BATCH = 16
_SKIPPED_ROWS = 4  # first updates of a run are slow
_EPISODES, _LENGTH = 12, 16


@dataclass(frozen=True)
class Rate:
    """How fast something is read.

    Attributes:
        what: What is read.
        samples_per_s: Windows or clips per second, by one loading process.
        bytes_per_s: What the networks get of it [bytes/s].
    """

    what: str
    samples_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Scaling:
    """Post-training from a cache by several processes of one thread each.

    Attributes:
        processes: How many.
        samples_per_s: Windows per second of all of them, the batch being the same.
    """

    processes: int
    samples_per_s: float


def run_ways(work: str, budget_s: float, *, full: bool) -> Iterator[Row]:
    """Run every way of a training in a process of its own."""
    for way in WAYS[work]:
        command = [sys.executable, "-m", "benchmarks.training", "--way", f"{work}:{way}"]
        command += ["--budget", f"{budget_s}", *(["--full"] if full else [])]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        yield Row(**json.loads(answer.stdout.splitlines()[-1]))


def measure_loading(size: Size, budget_s: float) -> Iterator[Rate]:
    """Time the sources of batches, without networks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        shards = _write_shards(path / "episodes", size.encoder.img_size)
        tokens = torch.randn(
            _EPISODES, _LENGTH, size.encoder.tokens_per_frame, size.encoder.embed_dim
        )
        cached = CachedEpisodes(write_cache(path / "latents", size.encoder, tokens))
        live = LiveEpisodes(ShardRecordings(open_shards(shards)))
        sources: dict[str, Episodes] = {"windows from a cache": cached, "windows of frames": live}
        for what, data in sources.items():
            sampler = WindowSampler(data, data.episodes, WindowSettings(FRAMES))
            yield _time_windows(what, sampler, size.windows, budget_s)
        yield _time_clips(shards, size, budget_s)


def _time_windows(what: str, sampler: WindowSampler, count: int, budget_s: float) -> Rate:
    random = torch.Generator().manual_seed(0)
    samples = volume = 0
    started = time.monotonic()
    while time.monotonic() - started < budget_s:
        windows = sampler.sample(count, random)
        volume += getattr(windows, "tokens", getattr(windows, "frames", torch.empty(0))).nbytes
        samples += count
    elapsed = time.monotonic() - started
    return Rate(what, samples / elapsed, volume / elapsed)


def _time_clips(shards: Path, size: Size, budget_s: float) -> Rate:
    recipe = PretrainConfig.model_validate(
        {
            "encoder": size.pretrained,
            "predictor": size.mask_predictor,
            "data": {
                "clips": {"kind": "episodes", "frames": size.clip_frames, "path": str(shards)}
            },
            "momentum": [0.99, 0.99],
            "steps": 1,
            "batch_size": size.clips,
            "optimiser": {"learning_rate": {"kind": "wsd", "peak": 1e-4}},
        }
    )
    source = ClipSource(recipe)
    step = volume = 0
    started = time.monotonic()
    while time.monotonic() - started < budget_s:
        volume += sum(group.clip.nbytes for group in source(step, 0).groups)
        step += 1
    elapsed = time.monotonic() - started
    return Rate(
        "pretraining clips with crops, flips, masks", step * size.clips / elapsed, volume / elapsed
    )


def measure_scaling(size: Size, steps: int) -> Iterator[Scaling]:
    """Run a post-training from a cache by one process and by two, over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        shards = _write_shards(path / "episodes", size.encoder.img_size)
        save_encoder(VisionTransformer(size.encoder), path / "encoder")
        recipe = path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(_scaling_recipe(size, steps)))
        for processes in _RANKS:
            output = path / f"run-{processes}"
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", f"{processes}", "-m", "training", "posttrain"]
            command += ["--config", f"{recipe}", "--data", f"{shards}", "--output", f"{output}"]
            command += ["--encoder", f"{path / 'encoder'}", "--latents", f"{path / 'latents'}"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            rows = read_table(output / "log.csv")[_SKIPPED_ROWS:]
            yield Scaling(processes, float(np.median([row["samples_per_s"] for row in rows])))


def _scaling_recipe(size: Size, steps: int) -> dict[str, Any]:
    return {
        "name": "scaling",
        "predictor": size.predictor.model_dump(mode="json"),
        "control_period_s": 1.0,
        "max_step_m": 0.15,
        "steps": steps,
        "batch_size": _SCALED_BATCH,
        "micro_batch_size": _SCALED_BATCH // max(_RANKS),
        "optimiser": {"learning_rate": {"kind": "wsd", "peak": 1e-4}},
        "run": {"device": "cpu", "log_every": 1, "save_every": steps},
    }


def _write_shards(folder: Path, size: tuple[int, int]) -> Path:
    random = np.random.default_rng(0)
    writer = ShardWriter(folder / "shard-00000", _LENGTH, size, {"control_period_s": 1.0})
    for _ in range(_EPISODES):
        frames = random.integers(0, 256, (_LENGTH, *size, 3), dtype=np.uint8)
        writer.append(frames, random.uniform(0.0, 0.5, (_LENGTH, 7)), "benchmark")
    writer.close()
    return folder


def print_tables(
    rows: Sequence[Row], rates: Sequence[Rate], scaling: Sequence[Scaling], title: str
) -> None:
    """Print one line per row."""
    console = Console(width=120)
    if rows:
        console.print(_table_of_ways(rows, title))
    if rates:
        table = Table("loading, one process", "samples/s", "MB/s")
        for rate in rates:
            table.add_row(rate.what, f"{rate.samples_per_s:,.0f}", f"{rate.bytes_per_s / 1e6:,.0f}")
        console.print(table)
    if scaling:
        table = Table("processes (gloo)", "windows/s", "efficiency")
        for entry in scaling:
            share = entry.samples_per_s / (entry.processes * scaling[0].samples_per_s)
            table.add_row(str(entry.processes), f"{entry.samples_per_s:.1f}", f"{share:.0%}")
        console.print(table)


def _table_of_ways(rows: Sequence[Row], title: str) -> Table:
    peak = next((v for k, v in PEAK_FLOPS.items() if k in title.replace("-", " ")), None)
    table = Table(title=title, caption="steps/s: times those of the first way of each training")
    names = (
        "training",
        "way",
        "updates",
        "update",
        "steps/s",
        "peak memory",
        "predicted",
        "MFU",
        "loss",
    )
    for name in names:
        table.add_column(name, justify="left" if name in ("training", "way") else "right")
    baselines: dict[str, float] = {}
    for row in rows:
        is_first = row.work not in baselines
        baselines.setdefault(row.work, row.step_s)
        mfu = "-" if peak is None else f"{row.flops / row.step_s / peak:.1%}"
        table.add_row(
            row.work if is_first else "",
            row.way,
            str(row.updates),
            f"{1e3 * row.step_s:,.0f} ms",
            f"{baselines[row.work] / row.step_s:.2f}",
            f"{row.peak_bytes / _MIB:,.0f} MiB",
            f"{row.predicted_bytes / _MIB:,.0f} MiB" if row.predicted_bytes else "-",
            mfu,
            f"{row.first_loss:.4f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write `benchmarks/results/training.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--full", action="store_true", help="published sizes; default with CUDA")
    parser.add_argument("--budget", type=float, default=_BUDGET_S, help="seconds of every way")
    parser.add_argument("--only", choices=["ways", "loading", "scaling"])
    parser.add_argument("--way", help=argparse.SUPPRESS)  # one way, for the process of its own
    parser.add_argument("--output", type=Path, default=RESULTS / "training.json")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    full = options.full or device.type == "cuda"
    size = published() if full else small()
    if options.way:
        work, _, way = options.way.partition(":")
        print(json.dumps(asdict(measure(work, way, size, options.budget, device))))
        return 0
    started, load_before = time.monotonic(), os.getloadavg()[0]
    wanted = [options.only] if options.only else ["ways", "loading", "scaling"]
    rows = (
        [row for work in WAYS for row in run_ways(work, options.budget, full=full)]
        if "ways" in wanted
        else []
    )
    rates = list(measure_loading(size, options.budget / 5)) if "loading" in wanted else []
    scaling = list(measure_scaling(small(), _SCALED_STEPS)) if "scaling" in wanted else []
    print_tables(rows, rates, scaling, hardware())
    document: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.training", *(arguments or sys.argv[1:])]),
        "hardware": hardware(),
        "load_before": load_before,
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "elapsed_s": round(time.monotonic() - started),
        "rows": [asdict(row) for row in rows],
        "loading": [asdict(rate) for rate in rates],
        "scaling": [asdict(entry) for entry in scaling],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    if load_before > (os.cpu_count() or 1) / 4:
        print(f"the machine was busy before (load {load_before:.1f}): repeat it on an idle one")
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
