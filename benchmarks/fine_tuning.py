"""Fine-tuning a predictor on one window with less and less memory, to be compared by `benchmarks.training`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch

from benchmarks.training_sizes import Size
from benchmarks.training_updates import FRAMES, OPTIMISER, Update, update_of
from models.ac_predictor import ACPredictor
from models.timm_encoder import import_timm
from training.config import OptimiserKind
from training.cost import posttraining_cost
from training.episodes import Windows
from training.lora import add_lora
from training.posttrain_config import ACLossConfig, LoRAConfig, PosttrainConfig
from training.posttrain_network import PosttrainNetwork


@dataclass(frozen=True)
class Saving:
    """A way to fine-tune with less memory.

    Attributes:
        recompute: Recompute activations.
        kind: The optimiser.
        rank: Rank of low-rank changes; None: all weights are trained.
    """

    recompute: bool = False
    kind: OptimiserKind = "adamw"
    rank: int | None = None


FINE_TUNING = "fine-tuning, 1 window"
SAVINGS: dict[str, Saving] = {
    "all weights, AdamW": Saving(),
    "activations recomputed": Saving(recompute=True),
    "and 8-bit AdamW": Saving(recompute=True, kind="adamw8bit"),
    "and LoRA of rank 16": Saving(recompute=True, kind="adamw8bit", rank=16),
}


@contextmanager
def fine_tuning(saving: Saving, size: Size, device: torch.device) -> Iterator[Update]:
    """Train a predictor on one window of random tokens."""
    torch.manual_seed(2)
    predictor = ACPredictor(size.fine_tuned)
    if saving.rank is not None:
        add_lora(predictor, LoRAConfig(rank=saving.rank))
    predictor.checkpoint_activations = saving.recompute
    network = PosttrainNetwork(predictor.to(device), ACLossConfig(), None)
    torch.manual_seed(3)
    shape = (1, FRAMES, size.fine_tuned.tokens_per_frame, size.fine_tuned.embed_dim)
    windows = Windows(torch.randn(shape), torch.randn(1, FRAMES, 7), torch.randn(1, FRAMES - 1, 7))
    batch = windows.to(device)
    yield update_of(network, lambda: batch, device, saving.kind)


def load_libraries() -> None:
    """Import what the savings need, before anything is measured."""
    import_timm()
    for name in ("bitsandbytes", "peft"):
        import_module(name)


def predicted_bytes(size: Size, saving: Saving) -> float:
    """Return state and activations of one window by the cost model."""
    recipe = PosttrainConfig.model_validate(
        {
            "name": "memory",
            "predictor": size.fine_tuned,
            "control_period_s": 1.0,
            "max_step_m": 0.1,
            "steps": 1,
            "batch_size": 1,
            "optimiser": {"kind": saving.kind, "learning_rate": OPTIMISER.learning_rate},
            "run": {"checkpoint_activations": saving.recompute},
            "lora": None if saving.rank is None else {"rank": saving.rank},
        }
    )
    cost = posttraining_cost(recipe, cached=True)
    return cost.state_bytes + cost.activation_bytes
