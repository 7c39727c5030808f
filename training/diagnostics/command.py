"""`python -m training diagnose`: the report card of an encoder or world model.

It looks at simulated runs, or at recordings, and tells how well the robot's state can be read out of the
tokens, whether these tell anything apart over space and time, how far ahead the world model sees, whether it
notices spliced videos, and whether the energy that plans follow says how far the goal is. Where it means
something, a number stands beside the same network with random weights, or beside the pixels.
"""

from __future__ import annotations

import json
import platform
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from training.diagnostics.card import DiagnosisSettings, ReportCard, diagnose, document
from training.diagnostics.page import render_card
from training.diagnostics.runs import load_runs, simulated_runs
from training.diagnostics.sections import as_markdown, sections
from training.diagnostics.subject import Subject, load_subject
from training.errors import ConfigurationError

CARD_FILE: Final = "report_card.json"
PAGE_FILE: Final = "report_card.html"
BEGIN: Final = "<!-- begin: written by `python -m training diagnose --docs` -->"
END: Final = "<!-- end -->"

_PERIOD_S: Final = 1.0
_MAX_STEP_M: Final = 0.15
_EXAMPLES: Final = """
examples:
  python -m training diagnose --model models/shipped
  python -m training diagnose --model runs/encoder --output runs/encoder/diagnosis
  python -m training diagnose --model vjepa2-ac-vitg.pt --data droid_raw/ --view left --device cuda
"""


def add_diagnose_command(commands: Any) -> None:
    """Add `diagnose` to the command line."""
    parser: ArgumentParser = commands.add_parser(
        "diagnose",
        help="print the report card of an encoder or world model",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True, help="anything that `python -m models doctor` reads"
    )
    parser.add_argument("--data", type=Path, help="recordings; simulated runs by default")
    parser.add_argument("--view", help="camera of the recordings (default: left, or the first)")
    parser.add_argument(
        "--period-s",
        type=float,
        help=f"time between two rows [s] (default: the model's, or {_PERIOD_S:g} for an encoder)",
    )
    parser.add_argument("--episodes", type=int, default=96, help="runs to look at (default 96)")
    parser.add_argument("--horizon", type=int, default=4, help="control periods ahead (default 4)")
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/diagnose"),
        help=f"folder for {CARD_FILE}, {PAGE_FILE} and the simulated runs (default runs/diagnose)",
    )
    parser.add_argument(
        "--docs", type=Path, help=f"also write the tables into a Markdown page, after {BEGIN!r}"
    )
    parser.set_defaults(start=_start)


def _start(options: Namespace) -> int:
    if options.episodes < 2 or options.horizon < 1:
        raise ConfigurationError(
            f"--episodes {options.episodes} and --horizon {options.horizon}; at least 2 and 1"
        )
    subject = load_subject(options.model, options.device)
    period_s = _period(subject, options.period_s)
    path = options.data
    if path is None:
        path = _simulate(subject, options.output, options.episodes, period_s)
    runs = load_runs(path, period_s, options.view, options.episodes)
    card = diagnose(subject, runs, DiagnosisSettings(horizon=options.horizon))
    print_card(card, Console())
    sys.stdout.write(f"written: {write_card(card, options.output)}\n")
    if options.docs is not None:
        write_docs(card, options.docs)
    return 0


def print_card(card: ReportCard, console: Console) -> None:
    """Print every part of a card as a table."""
    console.rule(f"report card of {card.name}")
    console.print(
        f"{card.source} on {card.origin}, {card.period_s:g} s from row to row; "
        f"{card.learned} runs to learn from, {card.judged} to judge by; {card.elapsed_s:.0f} s"
    )
    for section in sections(card):
        table = Table(
            title=section.title, title_justify="left", caption=section.note, caption_justify="left"
        )
        for place, name in enumerate(section.columns):
            table.add_column(name, justify="right" if place else "left", overflow="fold")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    for name, reason in card.missing.items():
        console.print(f"{name}: not measured, {reason}")


def write_card(card: ReportCard, folder: Path) -> Path:
    """Write JSON and page of a card into a folder; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "command": " ".join(["python -m training", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "card": document(card),
    }
    (folder / CARD_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    path = folder / PAGE_FILE
    path.write_text(render_card(card), encoding="utf-8")
    return path


def write_docs(card: ReportCard, path: Path) -> None:
    """Replace what a Markdown page has between the marks by the tables of a card.

    Raises:
        ConfigurationError: The page cannot be read, or has no marks.
    """
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); name a page") from error
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"{path} has no {BEGIN!r} followed by {END!r}; add both lines")
    facts = f"{card.name}: {card.learned} runs to learn from, {card.judged} to judge by."
    path.write_text(
        f"{before}{begin}\n{facts}\n\n{as_markdown(card)}{end}{after}", encoding="utf-8"
    )


def _period(subject: Subject, asked_s: float | None) -> float:
    """Return the control period to look at; a world model has its own."""
    if subject.model is None:
        return _PERIOD_S if asked_s is None else asked_s
    own_s = subject.model.config.control_period_s
    if asked_s not in (None, own_s):
        raise ConfigurationError(
            f"--period-s {asked_s:g}: {subject.name} was trained for {own_s:g} s; leave it out"
        )
    return own_s


def _simulate(subject: Subject, output: Path, episodes: int, period_s: float) -> Path:
    max_step_m = _MAX_STEP_M if subject.model is None else subject.model.config.max_step_m
    name = f"simulated-{episodes}-{period_s:g}s-{100 * max_step_m:g}cm"
    return simulated_runs(output / name, episodes, period_s, max_step_m)
