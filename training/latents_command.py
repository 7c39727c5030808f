"""`python -m training latents`: make a cache of encoded frames, or check one."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from training.config import load_recipe
from training.cost_report import quantity
from training.distributed import open_world
from training.errors import ConfigurationError
from training.latent_cache import LatentCache, open_cache
from training.posttrain_command import add_arguments, changes, load_networks, open_data
from training.posttrain_config import PosttrainConfig


def add_latents_command(commands: Any) -> None:
    """Add `latents encode` and `latents verify` to the command line."""
    text = "encode recordings once, for post-training from a cache"
    parser: ArgumentParser = commands.add_parser("latents", help=text, description=text)
    actions = parser.add_subparsers(dest="action", required=True)
    text = "encode recordings, or continue where that was interrupted (torchrun shares the work)"
    encode = actions.add_parser("encode", help=text, description=text)
    encode.add_argument("--config", type=Path, required=True, help="post-training recipe (YAML)")
    encode.add_argument("--data", action="append", default=[], metavar="PATH", help="recordings")
    encode.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    add_arguments(encode)
    encode.set_defaults(start=_encode)
    text = "compare every encoded frame with its checksum"
    verify = actions.add_parser("verify", help=text, description=text)
    verify.add_argument("latents", type=Path, help="the cache")
    verify.set_defaults(start=_verify)


def _encode(options: Namespace) -> int:
    recipe = load_recipe(options.config, PosttrainConfig, [*changes(options), *options.set])
    if recipe.data.path is None or recipe.data.latents_path is None:
        raise ConfigurationError(
            "encoding needs --data, recordings, and --latents, a folder for them"
        )
    with open_world(recipe.run) as world:
        encoder, _ = load_networks(recipe)
        open_data(recipe, encoder, world)
        if world.is_main:
            _show(open_cache(recipe.data.latents_path))
    return 0


def _verify(options: Namespace) -> int:
    cache = open_cache(options.latents)
    cache.verify()
    _show(cache)
    sys.stdout.write("every frame is as it was written\n")
    return 0


def _show(cache: LatentCache) -> None:
    episodes = {episode for episode, _ in cache.contents}
    views = sorted({view for _, view in cache.contents})
    size = cache.frames * cache.key.frame_bytes
    sys.stdout.write(
        f"{cache.frames:,} frames of {len(episodes):,} episodes ({', '.join(views)}), every "
        f"{cache.key.row_period_s:g} s, {cache.key.stored_type}, {quantity(size)}B\n"
        f"encoder {cache.key.encoder_sha256[:12]}, data {cache.key.data_sha256[:12]}\n"
    )
