"""`python -m training motion`: does an encoder see which way, and how fast, something moves?

Clips of moving textures and objects are generated, 8 directions at 2 speeds. A probe on the encoder's tokens of
whole clips stands beside a probe on one frame of the same clips, repeated, which cannot know more than chance,
and beside a probe on clips of the same network with random weights. Nothing is downloaded.
"""

from __future__ import annotations

import html
import json
import platform
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from models.checkpoint import load_encoder
from training.diagnostics.motion_probe import (
    CLIP,
    STILL,
    MotionScore,
    MotionSettings,
    judge_motion,
)
from training.diagnostics.subject import ENCODER, RANDOM, random_twin
from training.errors import ConfigurationError
from training.probes.motion import MotionConfig, MotionVideos
from training.probes.pictures import draw_confusion
from trajectories.replay.contact_sheet import thumbnail
from trajectories.replay.report.page import page
from trajectories.replay.report.svg import jpeg_uri

SCORES_FILE: Final = "motion.json"
PAGE_FILE: Final = "motion.html"

_PLAIN: Final = MotionSettings()
_SHOWN: Final = 4  # example clips
_STYLE: Final = (
    "<style>.end { text-anchor: end; } svg text { font-size: 11px; fill: var(--soft); }</style>"
)


def add_motion_command(commands: Any) -> None:
    """Add `motion` to the command line."""
    parser: ArgumentParser = commands.add_parser(
        "motion",
        help="test whether an encoder sees motion, on generated clips",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--encoder", required=True, help="anything that `models` opens")
    parser.add_argument(
        "--out-layers", type=int, nargs="+", help="blocks to read together (default: the last one)"
    )
    parser.add_argument("--learned", type=int, default=_PLAIN.learned, help="clips to learn from")
    parser.add_argument("--judged", type=int, default=_PLAIN.judged, help="clips to judge by")
    parser.add_argument("--steps", type=int, default=_PLAIN.steps, help="updates of the probes")
    parser.add_argument("--frames", type=int, default=_PLAIN.frames, help="frames of a clip")
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=_PLAIN.precision)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/motion"), help="folder (default runs/motion)"
    )
    parser.set_defaults(start=_start)


def _start(options: Namespace) -> int:
    if min(options.learned, options.judged, options.steps, options.frames) < 1:
        raise ConfigurationError("--learned, --judged, --steps and --frames are positive numbers")
    encoder = load_encoder(options.encoder, options.device)
    depth = encoder.config.depth
    layers = None if options.out_layers is None else tuple(options.out_layers)
    if layers is not None and not set(layers) <= set(range(depth)):
        raise ConfigurationError(f"--out-layers {list(layers)}: the blocks are 0 to {depth - 1}")
    settings = MotionSettings(
        learned=options.learned,
        judged=options.judged,
        steps=options.steps,
        frames=options.frames,
        out_layers=layers,
        precision=options.precision,
    )
    twin = random_twin(encoder.config).to(options.device)
    scores = [
        judge_motion(ENCODER, encoder, settings, CLIP),
        judge_motion(ENCODER, encoder, settings, STILL),
        judge_motion(RANDOM, twin, settings, CLIP),
    ]
    print_scores(options.encoder, scores, Console())
    sys.stdout.write(f"written: {write_scores(options.encoder, scores, options.output)}\n")
    return 0


def print_scores(source: str, scores: Sequence[MotionScore], console: Console) -> None:
    """Print a table."""
    chance = 1 / len(scores[0].classes)
    table = Table(
        title=f"motion: {source}, {len(scores[0].classes)} classes, chance {100 * chance:.1f} %",
        title_justify="left",
    )
    for name in ("tokens", "the probe sees", "named rightly", "accuracy", "95 % interval"):
        table.add_column(name, justify="left" if name in ("tokens", "the probe sees") else "right")
    for score in scores:
        low, high = score.interval
        table.add_row(
            score.eye,
            score.seen,
            f"{score.correct} of {score.total}",
            f"{100 * score.accuracy:.1f} %",
            f"[{100 * low:.1f}, {100 * high:.1f}]",
        )
    console.print(table)


def write_scores(source: str, scores: Sequence[MotionScore], folder: Path) -> Path:
    """Write JSON and page; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "command": " ".join(["python -m training", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "classes": scores[0].classes,
        "scores": [
            {
                "tokens": score.eye,
                "seen": score.seen,
                "correct": score.correct,
                "total": score.total,
                "interval": score.interval,
                "confusion": score.confusion.tolist(),
            }
            for score in scores
        ],
    }
    (folder / SCORES_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    path = folder / PAGE_FILE
    path.write_text(_render(source, scores), encoding="utf-8")
    return path


def _render(source: str, scores: Sequence[MotionScore]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(score.eye)}</td><td>{html.escape(score.seen)}</td>"
        f"<td>{score.correct} of {score.total}</td><td>{100 * score.accuracy:.1f} %</td>"
        f"<td>[{100 * score.interval[0]:.1f}, {100 * score.interval[1]:.1f}]</td></tr>"
        for score in scores
    )
    head = (
        "<tr><th>tokens</th><th>seen</th><th>right</th><th>accuracy</th><th>95 % interval</th></tr>"
    )
    matrices = "".join(
        f"<h2>{html.escape(score.eye)}: who takes which motion for which</h2>"
        f'<div class="card">{draw_confusion(score.confusion, score.classes)}</div>'
        for score in scores
        if score.seen == CLIP
    )
    body = (
        f"{_STYLE}<h1>Motion: {html.escape(source)}</h1>"
        f'<p class="lead">Which way, and how fast? Chance is {100 / len(scores[0].classes):.1f} %.</p>'
        f'<div class="card"><table>{head}{rows}</table></div>'
        f"<h2>Some of the clips</h2>{_examples()}{matrices}"
    )
    return page(f"Motion: {source}", body)


def _examples() -> str:
    """Show the first frames of some generated clips."""
    videos = MotionVideos(MotionConfig(samples=_SHOWN * 5))
    rows = []
    for number in range(_SHOWN):
        index = number * 5  # neighbours differ by direction only
        frames = videos.open(index).read(np.arange(4))
        pictures = "".join(
            f'<figure><img alt="frame {place}" style="width:100%" '
            f'src="{jpeg_uri(thumbnail(place, frame).jpeg)}"></figure>'
            for place, frame in enumerate(frames)
        )
        title = html.escape(videos.classes[videos.label(index)])
        rows.append(f'<h3>{title}</h3><div class="sheet">{pictures}</div>')
    return "".join(rows)
