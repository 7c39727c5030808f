"""From a recipe and a command line to a post-training: encoder, data, cache, predictor."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from models.ac_predictor import ACPredictor
from models.checkpoint import load_world_model
from models.frozen_encoder import load_frozen_encoder
from training.commands import Command
from training.cost import posttraining_cost
from training.cost_report import describe as describe_cost
from training.distributed import World
from training.episodes import CachedEpisodes, Episodes, LiveEpisodes
from training.errors import ConfigurationError
from training.latent_cache import LatentCache, open_cache
from training.latents import FrameEncoder, check_encoder, describe, encode_recordings
from training.posttrain import Posttraining
from training.posttrain_config import PosttrainConfig
from training.recordings import Recordings, open_recordings


def add_arguments(parser: ArgumentParser) -> None:
    """Add the sources of a post-training to its command line."""
    parser.add_argument(
        "--encoder",
        help="frozen encoder, instead of the recipe's encoder_from: a folder, a published file, a hub id, or "
        "timm:NAME or timm:NAME=FILE for a vision transformer of timm",
    )
    parser.add_argument("--latents", help="cache of latents, made where it is missing")
    parser.add_argument("--start-from", help="world model to train on, instead of a new predictor")


def changes(options: Namespace) -> list[str]:
    """Turn the command line into changes of the recipe."""
    given = {
        "data.path": options.data[-1] if options.data else None,
        "data.latents_path": options.latents,
        "encoder_from": options.encoder,
        "start_from": options.start_from,
    }
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def plan(recipe: PosttrainConfig) -> str:
    """Describe what a recipe asks for."""
    cached = recipe.data.latents_path is not None
    tokens = "from a cache of latents" if cached else "encoded in every update"
    loss = recipe.loss
    lines = [
        f"post-training of {recipe.name}",
        (
            f"windows           {loss.frames(rollout=True)} frames, strides {list(recipe.data.strides)} "
            f"rows, {recipe.batch_size} an update; tokens {tokens}"
        ),
        (
            f"loss              teacher forcing from {loss.context_frames} frames, rollout of "
            f"{loss.rollout_steps} steps every {loss.rollout_every} updates"
        ),
        describe_cost(posttraining_cost(recipe, cached=cached)),
    ]
    return "\n".join(lines)


def build(recipe: PosttrainConfig, options: Namespace, world: World) -> Posttraining:  # noqa: ARG001
    """Load everything that a post-training needs.

    Raises:
        ConfigurationError: Something is not named, or does not belong together.
        DataError: The recordings cannot be used.
        LatentsMismatchError: The cache was made from something else.
    """
    encoder, initial = load_networks(recipe)
    data = open_data(recipe, encoder, world)
    if isinstance(data, LiveEpisodes):
        encoder.network.to(world.device)
    return Posttraining(recipe, encoder, data, world.device, initial)


def load_networks(recipe: PosttrainConfig) -> tuple[FrameEncoder, ACPredictor | None]:
    """Load the frozen encoder, and the predictor to start from, if any.

    Raises:
        ConfigurationError: The recipe names no encoder.
        ModelError: Weights are missing, damaged or of another kind.
    """
    initial = None if recipe.start_from is None else load_world_model(recipe.start_from)
    if recipe.encoder_from is not None:
        network = load_frozen_encoder(recipe.encoder_from, recipe.predictor.grid_size)
        encoder = FrameEncoder(network, recipe.frame_geometry)
    elif initial is not None:
        encoder = FrameEncoder(initial.encoder, recipe.frame_geometry)
    else:
        raise ConfigurationError(
            "no encoder: give --encoder, a folder that `python -m training pretrain` made, a model "
            "folder, a published file or timm:NAME; or --start-from a world model"
        )
    return encoder, None if initial is None else initial.predictor


def open_data(recipe: PosttrainConfig, encoder: FrameEncoder, world: World) -> Episodes:
    """Open recordings or their cache; make or complete the cache first where recordings are named."""
    data = recipe.data
    recordings = None
    if data.path is not None:
        recordings = open_recordings(data.path, data.row_period_s, data.max_bad)
    if data.latents_path is not None:
        return CachedEpisodes(_open_latents(recipe, data.latents_path, encoder, recordings, world))
    if recordings is None:
        raise ConfigurationError("no data: give --data, a folder of recordings, or --latents")
    return LiveEpisodes(recordings)


def _open_latents(
    recipe: PosttrainConfig,
    directory: Path,
    encoder: FrameEncoder,
    recordings: Recordings | None,
    world: World,
) -> LatentCache:
    if recordings is None:
        cache = open_cache(directory)
        check_encoder(directory, cache.key, encoder)
        return cache
    encoder.network.to(world.device)
    encode_recordings(
        encoder,
        recordings,
        directory,
        stored_type=recipe.data.stored_type,
        part=(world.rank, world.size),
        max_bad=recipe.data.max_bad,
    )
    encoder.network.to("cpu")  # it has done its work, and the card may be small
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    world.barrier()
    return open_cache(directory, describe(encoder, recordings, recipe.data.stored_type))


POSTTRAIN = Command(
    name="posttrain",
    help="train the action-conditioned predictor on a frozen encoder",
    recipe=PosttrainConfig,
    build=build,
    plan=plan,
    add_arguments=add_arguments,
    changes=changes,
)
