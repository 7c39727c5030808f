"""`python -m training`: pretrain an encoder, then post-train a predictor on its frozen tokens."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.errors import ModelError
from training.errors import TrainingError
from training.run import run_posttrain, run_pretrain
from trajectories.errors import TrajectoryError

_EPILOGUE = """
examples:
  python -m simulation generate --output data/demo --episodes 3000
  python -m training pretrain  --config configs/training/demo_pretrain.yaml \\
                               --data data/demo --output runs/encoder
  python -m training posttrain --config configs/training/demo_posttrain.yaml \\
                               --data data/demo --encoder runs/encoder --output runs/world_model
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; errors of ours are printed without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "pretrain":
            run_pretrain(options.config, options.data, options.output)
        else:
            run_posttrain(options.config, options.data, options.encoder, options.output)
    except (TrainingError, TrajectoryError, ModelError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("pretrain", "train an encoder by masked prediction"),
        ("posttrain", "train the action-conditioned predictor on a frozen encoder"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, help="recipe (YAML)")
        command.add_argument("--data", type=Path, required=True, help="folder of shards")
        command.add_argument("--output", type=Path, required=True, help="run folder to write")
        if name == "posttrain":
            command.add_argument(
                "--encoder", type=Path, required=True, help="run folder of a pretrained encoder"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
