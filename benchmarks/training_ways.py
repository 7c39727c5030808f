"""The ways of one update that `benchmarks.training` compares, each to be run in a process of its own.

All get the same weights, data and masks, and their first losses have to agree.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import reference_training
from benchmarks.fine_tuning import (
    FINE_TUNING,
    SAVINGS,
    fine_tuning,
    load_libraries,
    predicted_bytes,
)
from benchmarks.memory import peak, reset_peak
from benchmarks.training_sizes import Size
from benchmarks.training_updates import FRAMES, OPTIMISER, Update, update_of
from models.ac_predictor import ACPredictor
from models.config import EncoderConfig
from models.encoder import VisionTransformer
from models.weights import frozen
from training.clips import ClipBatch, ClipGroup
from training.cost import (
    ClipBatches,
    ac_predictor_flops,
    encoder_flops,
    pretraining_cost,
)
from training.episodes import CachedEpisodes, PixelWindows, Windows
from training.latent_cache import CacheKey, LatentCache, open_cache
from training.latents import FrameEncoder, ShardFile
from training.masks import PUBLISHED_MASKS, sample_masks
from training.posttrain_config import ACLossConfig
from training.posttrain_network import PosttrainNetwork
from training.pretrain import MaskedPrediction
from training.pretrain_config import PretrainConfig
from training.windows import WindowSampler, WindowSettings

_EPISODES, _LENGTH = 8, 16
_MOMENTUM = 0.99925
_WARM_UP = 2


@dataclass(frozen=True)
class Row:
    """What a way takes.

    Attributes:
        work: What is trained.
        way: How.
        step_s: Median time of an update [s].
        updates: Updates that were timed.
        peak_bytes: Memory of the way from nothing, at most.
        first_loss: Loss of the first update.
        flops: Operations of an update by the cost model; those that the loss needs.
        predicted_bytes: Memory of the way by the cost model; 0 where it makes no prediction.
    """

    work: str
    way: str
    step_s: float
    updates: int
    peak_bytes: int
    first_loss: float
    flops: float
    predicted_bytes: float = 0.0


def measure(work: str, way: str, size: Size, budget_s: float, device: torch.device) -> Row:
    """Build a way, run it for a while, and say what it took.

    Args:
        work: `posttrain` or `pretrain`.
        way: A key of `WAYS[work]`.
        size: What is trained.
        budget_s: How long to run it [s].
        device: Where.
    """
    torch.manual_seed(0)
    if work == FINE_TUNING:
        load_libraries()  # their code is no part of what training takes
    before = reset_peak()
    with WAYS[work][way](size, device) as update:
        losses: list[float] = []
        times: list[float] = []
        begun = time.monotonic()
        while len(times) < _WARM_UP + 1 or time.monotonic() - begun < budget_s:
            started = time.monotonic()
            losses.append(update())
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.monotonic() - started)
        highest = peak() - before
    timed = times[_WARM_UP:]
    return Row(
        work,
        way,
        statistics.median(timed),
        len(timed),
        highest,
        losses[0],
        _flops(work, way, size),
        predicted_bytes(size, SAVINGS[way]) if work == FINE_TUNING else 0.0,
    )


def _flops(work: str, way: str, size: Size) -> float:
    if work == "pretrain":
        batches = [ClipBatches(size.clip_frames, size.pretrained.img_size, size.clips, 1)]
        return pretraining_cost(size.pretrained, size.mask_predictor, batches).flops_per_update
    contexts = (FRAMES - 1, 2)
    if work == FINE_TUNING:
        return 3 * sum(ac_predictor_flops(size.fine_tuned, n) for n in contexts)
    flops = 3 * sum(ac_predictor_flops(size.predictor, n) for n in contexts)
    if "cache" not in way:
        flops += FRAMES * encoder_flops(size.encoder, size.encoder.tokens_per_frame)
    return size.windows * flops


def _pixel_windows(size: Size) -> PixelWindows:
    """Draw random frames and motions, the same ones every time."""
    random = torch.Generator().manual_seed(1)
    shape = (size.windows, FRAMES)
    frames = torch.randint(
        0, 256, (*shape, *size.encoder.img_size, 3), dtype=torch.uint8, generator=random
    )
    states = 0.3 * torch.randn(*shape, 7, generator=random)
    return PixelWindows(frames, states, states[:, 1:] - states[:, :-1])


def _networks(size: Size, device: torch.device) -> tuple[VisionTransformer, ACPredictor]:
    torch.manual_seed(2)
    encoder = frozen(VisionTransformer(size.encoder)).to(device)
    return encoder, ACPredictor(size.predictor).to(device)


@contextmanager
def _published_posttraining(size: Size, device: torch.device) -> Iterator[Update]:
    training = reference_training.Posttraining(*_networks(size, device))
    windows = _pixel_windows(size)
    yield lambda: training.update(windows)


@contextmanager
def _live_posttraining(size: Size, device: torch.device) -> Iterator[Update]:
    encoder, predictor = _networks(size, device)
    network = PosttrainNetwork(predictor, ACLossConfig(), FrameEncoder(encoder))
    windows = _pixel_windows(size)
    yield update_of(network, lambda: windows.to(device), device)


@contextmanager
def _cached_posttraining(size: Size, device: torch.device) -> Iterator[Update]:
    """Read every window anew from a cache on disk, the first one the windows of the other ways."""
    encoder, predictor = _networks(size, device)
    windows = _pixel_windows(size)
    with torch.no_grad():
        first = windows.to(device).encoded(FrameEncoder(encoder))
    del encoder
    with tempfile.TemporaryDirectory() as folder:
        cache = write_cache(Path(folder) / "latents", size.encoder, first.tokens.cpu())
        sampler = WindowSampler(
            CachedEpisodes(cache), [f"{n}" for n in range(size.windows)], WindowSettings(FRAMES)
        )
        network = PosttrainNetwork(predictor, ACLossConfig(), None)
        random = torch.Generator().manual_seed(0)
        pending = [first]  # so that the first losses can be compared

        def read() -> Windows:
            drawn = sampler.sample(size.windows, random)
            assert isinstance(drawn, Windows)
            return (pending.pop() if pending else drawn).to(device)

        reset_peak()  # encoding was done once and long ago
        yield update_of(network, read, device)


def write_cache(folder: Path, encoder: EncoderConfig, tokens: Tensor) -> LatentCache:
    """Write windows `[B, T, N, D]` as episodes of a cache."""
    key = CacheKey(
        encoder_sha256="",
        img_size=encoder.img_size,
        frame_geometry="centre_square",
        tokens_per_frame=encoder.tokens_per_frame,
        embed_dim=encoder.embed_dim,
        data_sha256="",
        row_period_s=1.0,
    )
    folder.mkdir()
    (folder / "cache.json").write_text(key.model_dump_json())
    shard = ShardFile(folder / "shard-000-00000", key)
    for number, episode in enumerate(tokens):
        states = 0.3 * torch.randn(len(episode), 7, dtype=torch.float64)
        shard.append(f"{number}", "camera", episode, states.numpy())
    shard.close()
    return open_cache(folder)


def _clip_batch(size: Size, device: torch.device) -> ClipGroup:
    config = size.pretrained
    random = torch.Generator().manual_seed(1)
    rows, columns = config.grid_size
    grid = (size.clip_frames // config.tubelet_size, rows, columns)
    masks = [sample_masks(mask, size.clips, grid, random, random) for mask in PUBLISHED_MASKS]
    clip = torch.randn(size.clips, 3, size.clip_frames, *config.img_size, generator=random)
    return ClipGroup(
        clip.to(device),
        tuple(keep.to(device) for keep, _ in masks),
        tuple(hidden.to(device) for _, hidden in masks),
        0,
    )


@contextmanager
def _published_pretraining(size: Size, device: torch.device) -> Iterator[Update]:
    network = _masked_prediction(size, device)
    training = reference_training.Pretraining(network.encoder, network.predictor)
    del network.target
    batch = _clip_batch(size, device)
    yield lambda: training.update(batch.clip, list(batch.keep), list(batch.hidden))


@contextmanager
def _our_pretraining(size: Size, device: torch.device) -> Iterator[Update]:
    network = _masked_prediction(size, device)
    batch = ClipBatch((_clip_batch(size, device),), 0, is_monitored=False)
    update = update_of(network, lambda: batch, device)

    def update_and_average() -> float:
        loss = update()
        network.average(_MOMENTUM)
        return loss

    yield update_and_average


def _masked_prediction(size: Size, device: torch.device) -> MaskedPrediction:
    torch.manual_seed(2)
    config = PretrainConfig.model_validate(
        {
            "encoder": size.pretrained,
            "predictor": size.mask_predictor,
            "data": {"clips": {"kind": "episodes", "frames": size.clip_frames}},
            "momentum": [_MOMENTUM, _MOMENTUM],
            "steps": 1,
            "batch_size": size.clips,
            "optimiser": OPTIMISER,
        }
    )
    return MaskedPrediction(config).to(device)


Way = Callable[[Size, torch.device], Any]

PUBLISHED = "published procedure"
WAYS: dict[str, dict[str, Way]] = {
    "posttrain": {
        PUBLISHED: _published_posttraining,
        "ours, live": _live_posttraining,
        "ours, from cache": _cached_posttraining,
    },
    "pretrain": {PUBLISHED: _published_pretraining, "ours": _our_pretraining},
    FINE_TUNING: {name: partial(fine_tuning, saving) for name, saving in SAVINGS.items()},
}
