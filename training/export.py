"""`python -m training export`: a pretraining's checkpoint, sharded or not, as one model.

Runs write their finished model themselves; this is for checkpoints in between, and for the layout
that facebookresearch/vjepa2 reads, which holds the trained encoder beside its moving average.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.convert import save_published
from models.encoder import VisionTransformer
from models.model_folder import save_encoder
from models.weights import load_strictly, on_meta
from training.checkpoints import checkpoint_path, latest_checkpoint, read_networks, read_progress
from training.errors import ConfigurationError
from training.pretrain import part_of
from training.pretrain_config import PretrainConfig
from training.run_folder import RunFolder, read_run


def add_export_command(commands: Any) -> None:
    """Add `export` to the command line."""
    text = "write a checkpoint of a pretraining as a model"
    parser = commands.add_parser("export", help=text, description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("output", type=Path, help="a folder for `ours`, a .pt file for `published`")
    parser.add_argument("--to", choices=("ours", "published"), default="ours")
    parser.add_argument("--step", type=int, help="updates after which; the newest by default")
    parser.set_defaults(start=export)


def export(options: Namespace) -> int:
    """Write the model.

    Raises:
        ConfigurationError: The folder holds no pretraining, or no such checkpoint.
        ResumeError: The checkpoint is damaged.
        ConversionError: The published code cannot compute this model.
    """
    kind, recipe = read_run(options.run)
    if kind != "pretrain":
        raise ConfigurationError(
            f"{options.run} is a {kind} run; its models are in the folder and in best/, and "
            "`python -m models convert` writes them in another layout"
        )
    try:
        config = PretrainConfig.model_validate(recipe)
    except ValidationError as error:
        raise ConfigurationError(f"{options.run}: {error}") from error
    checkpoint = _find(options.run, options.step)
    state = read_networks(checkpoint)
    encoder = on_meta(partial(VisionTransformer, config.encoder))
    load_strictly(encoder, part_of(state, "target"), str(checkpoint))
    step = read_progress(checkpoint).step
    predictor = part_of(state, "predictor")
    if options.to == "published":
        online = part_of(state, "encoder")
        save_published(encoder, options.output, {"epoch": step}, predictor, online)
    else:
        metadata = {"step": step, "recipe": recipe}
        save_encoder(encoder, options.output, metadata, mask_predictor=predictor)
    sys.stdout.write(f"{options.output}: the encoder after {step:,} updates\n")
    return 0


def _find(run: Path, step: int | None) -> Path:
    directory = RunFolder(run).checkpoints
    path = latest_checkpoint(directory) if step is None else checkpoint_path(directory, step)
    if path is None or not path.is_dir():
        found = ", ".join(sorted(found.name for found in directory.glob("step-*"))) or "none"
        raise ConfigurationError(f"no such checkpoint below {run}; there are: {found}")
    return path
