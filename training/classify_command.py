"""`python -m training classify`: name what a video shows, with a probe that was trained before."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from training.classification import InferenceConfig, VideoClassifier, load_probe, read_classes
from training.config import load_recipe
from training.errors import ConfigurationError
from training.probes.features import load_features
from training.videos import VideoFiles

_DESCRIPTION: Final = """
Encode a video with a frozen encoder, ask a trained probe, and print the most probable classes. Probe files are
read as plain tensors; nothing in them is run.
"""
_EXAMPLES: Final = """
examples:
  python -m training classify clip.mp4 --probe runs/probe --encoder models/shipped
  python -m training classify clip.mp4 --config configs/probes/inference/ssv2_vitl.yaml \\
                              --classes something-something-v2-labels.json
  python -m training classify clip.mp4 --probe head.pt --encoder vitl.pt --classes names.txt \\
                              --set clips.segments=2 --set clips.views=3
"""


def add_classify_command(commands: Any) -> None:
    """Add `classify` to the command line."""
    parser: ArgumentParser = commands.add_parser(
        "classify",
        help="print what a video shows, by a trained probe",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video or image files")
    parser.add_argument("--config", type=Path, help="how the probe is asked (YAML)")
    parser.add_argument("--probe", help=".pt file, URL, or the folder of a probe run")
    parser.add_argument("--encoder", help="the frozen encoder that the probe was trained with")
    parser.add_argument("--classes", type=Path, help="names, one per line, or JSON")
    parser.add_argument("--top", type=int, default=5, help="how many classes (default 5)")
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--json", action="store_true", help="print one JSON object per video")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of --config",
    )
    parser.set_defaults(start=_start)


def _start(options: Namespace) -> int:
    classifier = _open(options)
    files = VideoFiles(options.videos)
    console = Console()
    for number, path in enumerate(options.videos):
        stream = files.open(number, np.random.default_rng(0))  # nothing to choose
        try:
            found = classifier.best(stream, options.top)
        finally:
            stream.close()
        if options.json:
            sys.stdout.write(json.dumps({"video": path, **found}) + "\n")
            continue
        for question, answers in found.items():
            table = Table(title=f"{path}: {question}", title_justify="left")
            table.add_column("probability", justify="right")
            table.add_column("class")
            for name, share in answers:
                table.add_row(f"{share:.3f}", name)
            console.print(table)
    return 0


def _open(options: Namespace) -> VideoClassifier:
    given = {"probe": options.probe, "encoder": options.encoder}
    named = {key: value for key, value in given.items() if value is not None}
    if options.config is not None:
        config = load_recipe(options.config, InferenceConfig, options.set).model_copy(update=named)
    elif options.set:
        raise ConfigurationError("--set changes values of --config, which is not given")
    else:
        config = InferenceConfig.model_validate(named)
    if config.encoder is None:
        raise ConfigurationError("no encoder: give --encoder, a model folder or a published file")
    if options.top < 1:
        raise ConfigurationError(f"--top {options.top}: at least one class has to be printed")
    probe = load_probe(config)
    encoder = load_features(
        config.encoder,
        torch.device(options.device),
        options.precision,
        probe.config.out_layers,
        predictor=config.ahead_s is not None,
        fps=probe.config.clips.fps or 8.0,
    )
    probe.network.to(options.device)
    classes = None if options.classes is None else read_classes(options.classes, probe.outputs)
    return VideoClassifier(encoder, probe, classes)
