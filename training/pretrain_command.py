"""`python -m training pretrain`: from a recipe to a running pretraining, or to its plan."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

from models.checkpoint import open_checkpoint
from models.identity import check_flavour
from models.weights import load_strictly
from training.checkpoints import latest_checkpoint, load_checkpoint
from training.commands import Command
from training.distributed import World
from training.errors import ConfigurationError
from training.plan import describe_pretraining
from training.pretrain import MaskedPrediction, Pretraining
from training.pretrain_config import PretrainConfig, StartFrom


def build_pretraining(config: PretrainConfig, options: Namespace, world: World) -> Pretraining:  # noqa: ARG001
    """Draw or load the networks, and find the data."""
    torch.manual_seed(config.seed)
    network = MaskedPrediction(config)
    training = Pretraining(config, network)
    if config.start_from is not None:
        training.start_from = load_start(network, config.start_from)
    return training


def load_start(network: MaskedPrediction, start: StartFrom) -> Path | None:
    """Load the weights to begin with.

    Args:
        network: Gets them.
        start: Where they are.

    Returns:
        The checkpoint whose optimiser state is to be loaded when there is an optimiser, if asked.

    Raises:
        ConfigurationError: The optimiser's state is asked for, and there is none.
        ResumeError: A run's checkpoint belongs to other networks.
        ModelError: There is nothing at the path, or it belongs to other networks.
    """
    path = Path(start.path)
    checkpoint = path if (path / ".metadata").is_file() else latest_checkpoint(path / "checkpoints")
    if checkpoint is not None:
        load_checkpoint(checkpoint, network)
        return checkpoint if start.optimiser else None
    if start.optimiser:
        raise ConfigurationError(
            f"start_from.path {start.path} has no checkpoint of a run, so no optimiser state; give "
            "a run folder, or set start_from.optimiser to false"
        )
    contents = open_checkpoint(start.path)
    averaged = contents.encoder_key()
    online = "encoder" if "encoder" in contents.networks else averaged
    parts: list[tuple[nn.Module, str]] = [(network.encoder, online), (network.target, averaged)]
    if "predictor" in contents.networks:
        parts.append((network.predictor, "predictor"))
    check_flavour(contents, averaged, network.encoder.config)
    for part, key in parts:
        load_strictly(part, contents.network(key), f"{key!r} in {contents.source}")
    network.target.requires_grad_(requires_grad=False)
    return None


PRETRAIN = Command(
    name="pretrain",
    help="train an encoder by masked prediction",
    recipe=PretrainConfig,
    build=build_pretraining,
    plan=describe_pretraining,
)
