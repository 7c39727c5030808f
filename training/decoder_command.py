"""`python -m training decoder`: from a recipe to a decoder for an encoder's tokens."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch

from models.checkpoint import load_encoder
from models.decoder import PixelDecoder
from training.commands import Command
from training.decoder import DecoderTraining, DecoderTrainingConfig
from training.distributed import World
from training.episodes import LiveEpisodes
from training.errors import ConfigurationError
from training.latents import FrameEncoder
from training.recordings import open_recordings


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--encoder", help="frozen encoder, instead of the recipe's encoder_from")


def _changes(options: Namespace) -> list[str]:
    given = {
        "data.path": options.data[-1] if options.data else None,
        "encoder_from": options.encoder,
    }
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def _build(recipe: DecoderTrainingConfig, options: Namespace, world: World) -> DecoderTraining:  # noqa: ARG001
    data = recipe.data
    if recipe.encoder_from is None or data.path is None:
        raise ConfigurationError(
            "a decoder needs --encoder, the model whose tokens it shall draw, and --data, recordings"
        )
    network = load_encoder(recipe.encoder_from, device=world.device)
    recordings = open_recordings(data.path, data.row_period_s, data.max_bad)
    encoder = FrameEncoder(network, recipe.frame_geometry)
    return DecoderTraining(recipe, encoder, LiveEpisodes(recordings))


def _plan(recipe: DecoderTrainingConfig) -> str:
    lines = [
        f"decoder with {recipe.perceptual} as perceptual loss (weight {recipe.perceptual_weight:g})",
        f"updates           {recipe.steps:,} of {recipe.batch_size} frames",
    ]
    if recipe.encoder_from is not None:
        config = recipe.network(load_encoder(recipe.encoder_from).config)
        with torch.device("meta"):
            count = sum(p.numel() for p in PixelDecoder(config).parameters())
        lines.append(f"parameters        {count:,}, {2 * count / 1e6:.1f} MB on disk")
    return "\n".join(lines)


DECODER = Command(
    name="decoder",
    help="train a decoder that draws what tokens stand for",
    recipe=DecoderTrainingConfig,
    build=_build,
    plan=_plan,
    add_arguments=_add_arguments,
    changes=_changes,
)
