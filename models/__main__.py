"""Look at weights and convert them: `python -m models doctor FILE`, `python -m models convert SRC DST`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

try:
    from models.convert import convert
    from models.doctor import Report, difference_to, examine
    from models.errors import ModelError
except ModuleNotFoundError as error:  # the wheel is the same on every machine, the extras are not
    sys.exit(f"error: {error}; pip install 'vjepa-planner[train]'")

_SOURCES = """\
a source is one of
  a folder of ours           config.json + model.safetensors
  a published .pt file       vitl.pt, vith.pt, vitg.pt, vitg-384.pt, vjepa2-ac-vitg.pt, jepa-wms files
  a transformers folder      saved by VJEPA2Model.save_pretrained
  a Hugging Face hub id      facebook/vjepa2-vitl-fpc64-256
  a URL of a .pt file        https://..., kept in $VJEPA_PLANNER_CACHE; add #sha256=<hex> to check it
"""

_DOCTOR = f"""\
Print what a checkpoint is, what would be loaded from it, what is missing or too much, and which
known configurations it fits. Nothing in the file is run, and no weights are changed.

{_SOURCES}
exit status
  0  something can be loaded strictly
  1  the file can be read, but no network in it fits a known configuration
  2  the file cannot be read: not there, damaged, or made to run code

example
  python -m models doctor vjepa2-ac-vitg.pt
"""

_CONVERT = f"""\
Write a checkpoint in another layout, every weight exact to the bit.

  --to ours        a folder of config.json + model.safetensors; the configuration (rotary flavour,
                   frame geometry, control period) travels with the weights
  --to published   a .pt file with the key names of facebookresearch/vjepa2, which its loaders take
                   with strict=True; models with options that code lacks are refused with the reason

Files of the pretraining hold two encoders; the averaged one (target_encoder) is taken, and the mask
predictor goes with it.

{_SOURCES}
examples
  python -m models convert vitl.pt runs/vitl --to ours
  python -m models convert runs/my_world_model my-ac.pt --to published
  python -m models convert droid_vj2ac_noprop.pth.tar runs/fixed --to ours --encoder vitg.pt
"""

_LISTED = 8  # keys per kind of difference


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        if options.command == "doctor":
            report = examine(options.source)
            _print_report(report, console)
            return 0 if report.is_loadable else 1
        network = convert(options.source, options.destination, options.to, options.encoder)
    except (ModelError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    parameters = sum(weight.numel() for weight in network.parameters())
    console.print(
        f"written: {options.destination} ({type(network).__name__}, {parameters:,} parameters)"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = _command(commands, "doctor", "say what a checkpoint is and what it fits", _DOCTOR)
    doctor.add_argument("source", help="what to look at")
    converter = _command(commands, "convert", "write a checkpoint in another layout", _CONVERT)
    converter.add_argument("source", help="what to read")
    converter.add_argument("destination", help="folder (ours) or .pt file (published)")
    converter.add_argument("--to", choices=("ours", "published"), required=True)
    converter.add_argument("--encoder", help="source of the encoder, for files that lack it")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    brief: str,
    text: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=brief,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _print_report(report: Report, console: Console) -> None:
    overview = Table(title=report.source, show_header=False)
    for label, text in report.facts.items():
        overview.add_row(label, text)
    overview.add_row("would be loaded", report.loads_as)
    console.print(overview)
    for network in report.networks:
        table = Table(title=f"{network.key}: {network.kind}", show_header=False)
        for label, text in network.facts.items():
            table.add_row(label, text)
        table.add_row("fits", ", ".join(network.fits) or "no known configuration")
        if network.nearest:
            table.add_row("nearest", network.nearest)
            for kind, keys in difference_to(network).items():
                if keys:
                    rest = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
                    table.add_row(f"{len(keys)} {kind}", ", ".join(keys[:_LISTED]) + rest)
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
