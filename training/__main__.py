"""`python -m training`: pretrain an encoder, post-train a predictor on it, look at a run."""

from __future__ import annotations

import argparse
import logging
import sys

try:
    from models.errors import ModelError
    from training.classify_command import add_classify_command
    from training.cost_command import add_cost_command
    from training.decoder_command import DECODER
    from training.diagnostics.command import add_diagnose_command
    from training.diagnostics.motion_command import add_motion_command
    from training.errors import TrainingError
    from training.export import add_export_command
    from training.latents_command import add_latents_command
    from training.posttrain_command import POSTTRAIN
    from training.pretrain_command import PRETRAIN
    from training.probes.command import PROBE
    from training.report import add_report_command
    from trajectories.errors import TrajectoryError
except ModuleNotFoundError as error:  # the wheel is the same on every machine, the extras are not
    sys.exit(f"error: {error}; pip install 'vjepa-planner[train]'")

_EPILOGUE = """
examples:
  python -m simulation generate --recipe configs/simulation/demo_data.yaml --output data/demo
  python -m training pretrain  --config configs/training/demo_pretrain.yaml \\
                               --data data/demo --output runs/encoder
  python -m training posttrain --config configs/training/demo_posttrain.yaml \\
                               --data data/demo --encoder runs/encoder --output runs/world_model
  torchrun --nproc-per-node 8 -m training pretrain --config ... --output ...
  python -m training pretrain  --config configs/training/pretrain_vitl_256.yaml --dry-run
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; errors of ours are printed without a traceback."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        status: int = options.start(options)
    except (TrainingError, TrajectoryError, ModelError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    PRETRAIN.add_to(commands)
    POSTTRAIN.add_to(commands)
    DECODER.add_to(commands)
    PROBE.add_to(commands)
    add_latents_command(commands)
    add_cost_command(commands)
    add_export_command(commands)
    add_report_command(commands)
    add_classify_command(commands)
    add_diagnose_command(commands)
    add_motion_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
