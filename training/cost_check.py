"""The cost model against reality: small networks are run, and what they take is counted.

Operations are counted by torch as they happen, memory by what autograd and the optimiser really keep,
storage by the sizes of real files. Everything is small enough for a CPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.ac_predictor import ACPredictor
from models.config import ACPredictorConfig, EncoderConfig, MaskPredictorConfig
from models.encoder import CHANNELS, VisionTransformer
from models.mask_predictor import MaskPredictor
from training.ac_losses import loss_terms
from training.cache_cost import cache_cost
from training.config import OptimiserConfig, OptimiserKind
from training.cost import (
    STATE_BYTES,
    ac_predictor_flops,
    activation_bytes,
    encoder_flops,
    mask_predictor_flops,
)
from training.episodes import Windows
from training.latent_cache import CacheKey
from training.latents import ShardFile
from training.optimiser import build_optimiser
from training.schedules import WarmupStableDecay

_FRAMES: Final = 4
# Torch does not count fused attention on a CPU, which sequences of over 512 tokens take; memory is
# measured with it, operations without.
_ENCODER: Final = EncoderConfig(
    img_size=(64, 64), patch_size=8, num_frames=8, embed_dim=192, depth=3, num_heads=3
)
_PREDICTOR: Final = ACPredictorConfig(
    grid_size=(8, 8), embed_dim=192, predictor_embed_dim=192, depth=4, num_heads=3
)
_LARGE_PREDICTOR: Final = _PREDICTOR.model_copy(update={"grid_size": (16, 16)})
_MASK_PREDICTOR: Final = MaskPredictorConfig(
    grid_size=(8, 8), embed_dim=192, predictor_embed_dim=96, depth=2, num_heads=3
)
_MATRIX: Final = 1024
_REPEATS: Final = 5


@dataclass(frozen=True)
class Check:
    """One number of the model beside the measured one.

    Attributes:
        what: What was measured.
        unit: Its unit.
        predicted: By the model.
        measured: In a run.
    """

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Predicted over measured; 1 is exact."""
        return self.predicted / self.measured


def check_all() -> Iterator[Check]:
    """Run every comparison, a few seconds each."""
    torch.manual_seed(0)
    yield from _flops()
    yield from _activations()
    yield from _optimisers()
    yield _cache()


def _flops() -> Iterator[Check]:
    clip = torch.randn(1, CHANNELS, 2 * _FRAMES, *_ENCODER.img_size)
    tokens = _FRAMES * _ENCODER.tokens_per_frame
    encoder = VisionTransformer(_ENCODER)
    yield _counted("encoder, forward", encoder_flops(_ENCODER, tokens), lambda: encoder(clip))
    kept = torch.randperm(tokens)[None, : tokens // 3]
    seen = kept.shape[1]
    predicted = encoder_flops(_ENCODER, tokens, seen)
    yield _counted("encoder, masked", predicted, lambda: encoder(clip, masks=[kept]))
    order = torch.randperm(tokens)[None]
    visible, hidden = order[:, :seen], order[:, seen:]
    context = torch.randn(1, seen, _ENCODER.embed_dim)
    mask_predictor = MaskPredictor(_MASK_PREDICTOR)
    yield _counted(
        "mask predictor, forward",
        mask_predictor_flops(_MASK_PREDICTOR, seen, tokens - seen),
        lambda: mask_predictor(context, [visible], [hidden]),
    )
    predictor, windows = ACPredictor(_PREDICTOR), _windows()
    forward = ac_predictor_flops(_PREDICTOR, _FRAMES) + ac_predictor_flops(_PREDICTOR, 2)
    yield _counted("post-training, loss", forward, lambda: _loss(predictor, windows))
    yield _counted(
        "post-training, update", 3 * forward, lambda: _backward(_loss(predictor, windows))
    )


def _activations() -> Iterator[Check]:
    config = _LARGE_PREDICTOR
    predictor, windows = ACPredictor(config), _windows(config)
    tokens = _FRAMES * (config.tokens_per_frame + config.condition_tokens)
    for checkpointed in (False, True):
        predictor.checkpoint_activations = checkpointed
        kept = _kept_bytes(predictor, windows)
        predicted = activation_bytes(config, tokens, checkpointed=checkpointed)
        name = "recomputed" if checkpointed else "kept"
        yield Check(f"activations, {name}", "B", predicted, kept)


def _optimisers() -> Iterator[Check]:
    kinds: list[OptimiserKind] = ["adamw"]
    if find_spec("bitsandbytes") is not None:
        kinds.append("adamw8bit")
    for kind in kinds:
        predictor, windows = ACPredictor(_PREDICTOR), _windows()
        config = OptimiserConfig(kind=kind, learning_rate=WarmupStableDecay(peak=1e-4))
        optimiser = build_optimiser(predictor, config)
        _backward(_loss(predictor, windows))
        optimiser.step()
        trained = [p for p in predictor.parameters() if p.grad is not None]
        state = sum(
            value.nbytes
            for parameter in trained
            for name, value in optimiser.state[parameter].items()
            if isinstance(value, Tensor) and value.ndim and not name.startswith("qmap")
        )
        count = sum(parameter.numel() for parameter in trained)
        yield Check(f"optimiser state, {kind}", "B", STATE_BYTES[kind] * count, state)


def _cache() -> Check:
    """Write a minute of encoded frames."""
    key = CacheKey(
        encoder_sha256="",
        img_size=_ENCODER.img_size,
        frame_geometry="centre_square",
        tokens_per_frame=_ENCODER.tokens_per_frame,
        embed_dim=_ENCODER.embed_dim,
        data_sha256="",
        row_period_s=1.0,
    )
    cost = cache_cost(_ENCODER, duration_s=60.0, row_period_s=1.0)
    with tempfile.TemporaryDirectory() as folder:
        shard = ShardFile(Path(folder) / "shard", key)
        shard.append(
            "e", "v", torch.randn(cost.frames, *key.frame_shape), np.zeros((cost.frames, 7))
        )
        shard.close()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return Check("cache of latents, a minute", "B", cost.size_bytes, size)


def _windows(config: ACPredictorConfig = _PREDICTOR) -> Windows:
    tokens = torch.randn(1, _FRAMES + 1, config.tokens_per_frame, config.embed_dim)
    return Windows(tokens, torch.randn(1, _FRAMES + 1, 7), torch.randn(1, _FRAMES, 7))


def _loss(predictor: ACPredictor, windows: Windows) -> Tensor:
    return loss_terms(predictor, windows, context_frames=_FRAMES, rollout_steps=2).total(1.0)


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _counted(what: str, predicted: float, run: Callable[[], object]) -> Check:
    with FlopCounterMode(display=False) as counter:
        run()
    return Check(what, "FLOP", predicted, counter.get_total_flops())


def _kept_bytes(predictor: ACPredictor, windows: Windows) -> float:
    """Return the most that autograd keeps of a forward and backward pass, weights left out.

    Recomputed blocks are kept one at a time while gradients flow back, so the blocks' inputs and one
    block are added up.
    """
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        tokens = windows.tokens[:, :-1].flatten(1, 2)
        inputs = (tokens, windows.actions, windows.states[:, :-1])
        whole = _saved(predictor, lambda: predictor(*inputs))
        if not predictor.checkpoint_activations:
            return whole
        predictor.checkpoint_activations = False
        return whole + _saved(predictor, lambda: predictor(*inputs)) / predictor.config.depth


def _saved(network: nn.Module, run: Callable[[], object]) -> float:
    """Return the bytes that autograd keeps of a forward pass, besides weights and their copies."""
    shapes = {tuple(parameter.shape) for parameter in network.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tuple(tensor.shape) not in shapes:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run()
    del result
    return float(sum(kept.values()))


@dataclass(frozen=True)
class Speed:
    """How fast this machine computes.

    Attributes:
        peak_flops: Rate of a large bfloat16 matrix product [FLOP/s].
        update_flops: Rate of a post-training update, by the cost model's count [FLOP/s].
    """

    peak_flops: float
    update_flops: float

    @property
    def mfu(self) -> float:
        """Share of the peak that updates reach."""
        return self.update_flops / self.peak_flops


def measure_speed() -> Speed:
    """Time matrix products and post-training updates on this machine's CPU."""
    a = torch.randn(_MATRIX, _MATRIX, dtype=torch.bfloat16)
    peak = 2.0 * _MATRIX**3 / _best_time(lambda: a @ a)
    predictor, windows = ACPredictor(_PREDICTOR), _windows()

    def update() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = _loss(predictor, windows)
        _backward(loss)

    flops = 3 * (ac_predictor_flops(_PREDICTOR, _FRAMES) + ac_predictor_flops(_PREDICTOR, 2))
    return Speed(peak, flops / _best_time(update))


def _best_time(run: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.monotonic()
        run()
        times.append(time.monotonic() - started)
    return min(times)
