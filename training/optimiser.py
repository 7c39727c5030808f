"""AdamW whose rate and decay follow the recipe, and which nothing but numbers can move."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from models.errors import MissingDependencyError
from training.config import OptimiserConfig, OptimiserKind
from training.errors import ConfigurationError


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Make an optimiser of everything in a network that is open to training.

    Biases, norms and other vectors are not decayed (arXiv 2506.09985, appendix A).

    Raises:
        MissingDependencyError: The recipe asks for 8 bits and bitsandbytes is not installed.
        ConfigurationError: It asks for 8 bits and parameters are sharded.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "decayed": True},
        {"params": [p for p in parameters if p.ndim <= 1], "decayed": False},
    ]
    groups = [group for group in groups if group["params"]]
    rate = config.learning_rate.peak
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=config.betas, weight_decay=0.0, fused=True)
    if any(hasattr(p, "to_local") for p in parameters):
        raise ConfigurationError(
            f"optimiser.kind {config.kind!r} cannot shard its state; use adamw with run.strategy fsdp"
        )
    kind = _eight_bit(config.kind)
    return kind(groups, lr=rate, betas=config.betas, weight_decay=0.0)


def _eight_bit(kind: OptimiserKind) -> Callable[..., torch.optim.Optimizer]:
    """Return AdamW with a state of 8 bits a number (arXiv 2110.02861), paged to the host or not."""
    try:
        from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
    except ImportError as error:
        raise MissingDependencyError(
            f"optimiser.kind {kind!r} needs bitsandbytes ({error}); pip install "
            "'vjepa-planner[finetune]', or use adamw"
        ) from error
    return AdamW8bit if kind == "adamw8bit" else PagedAdamW8bit


def schedule(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, update: int, steps: int
) -> float:
    """Set rate and decay for update number `update` (from 1) of `steps`; return the rate."""
    rate = config.learning_rate.at(update, steps)
    decay = config.weight_decay.at(update, steps)
    for group in optimiser.param_groups:
        group["lr"] = rate
        group["weight_decay"] = decay if group["decayed"] else 0.0
    return rate


def clip_gradients(network: nn.Module, config: OptimiserConfig) -> float:
    """Scale gradients down to `clip_norm`; return their norm before that.

    Without a limit the norm is measured and nothing is changed.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    limit = math.inf if config.clip_norm is None else config.clip_norm
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    if hasattr(norm, "full_tensor"):  # the parameters are sharded
        norm = norm.full_tensor()
    return float(norm)


def optimiser_state(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers, as `<parameter>/<quantity>`; counters become tensors.

    Parameters that never had a gradient have no state.
    """
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in network.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def blank_state(
    network: nn.Module, stored: Mapping[str, TensorStorageMetadata]
) -> dict[str, Tensor]:
    """Make room for a stored state: tensors placed and sharded as their parameters are."""
    parameters = dict(network.named_parameters())
    blank = {}
    for name, entry in stored.items():
        parameter = parameters[name.rpartition("/")[0]].detach()
        kind = entry.properties.dtype
        if entry.size == parameter.shape:
            blank[name] = torch.zeros_like(parameter, dtype=kind)
        else:
            blank[name] = torch.zeros(entry.size, dtype=kind, device=parameter.device)
    return blank


def restore_state(
    network: nn.Module, optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Give the optimiser the state that `optimiser_state` returned, in place of its own."""
    parameters = dict(network.named_parameters())
    optimiser.state.clear()
    for name, value in state.items():
        owner, _, key = name.rpartition("/")
        is_counter = value.ndim == 0 and not value.is_floating_point()
        entry: dict[str, Any] = optimiser.state[parameters[owner]]
        entry[key] = int(value) if is_counter else value
