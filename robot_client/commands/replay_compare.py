"""`robot-client replay compare A.json B.json`: two results of `replay`, in pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from robot_client.errors import RunError
from robot_client.exits import DONE
from trajectories.errors import TrajectoryError
from trajectories.replay.comparison import compare_results
from trajectories.replay.job import make_folder
from trajectories.replay.report import render_comparison
from trajectories.replay.results import read_json
from trajectories.replay.terminal import comparison_table

NAME = "replay-compare"
HELP = "the same as `replay compare`"


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Turn `replay compare` into the one word that the parser knows: argparse has no such pair."""
    for place, word in enumerate(arguments):
        if word == "replay" and list(arguments[place + 1 : place + 2]) == ["compare"]:
            return [*arguments[:place], NAME, *arguments[place + 2 :]]
    return list(arguments)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.prog = parser.prog.replace(NAME, "replay compare")
    parser.set_defaults(command=run)
    parser.add_argument("first", type=Path, metavar="A.json")
    parser.add_argument("second", type=Path, metavar="B.json")
    parser.add_argument("--output", type=Path, help="page to write (default: beside B.json)")


def run(options: argparse.Namespace) -> int:
    """Compare and write the page; returns the exit status."""
    try:
        comparison = compare_results(read_json(options.first), read_json(options.second))
        name = f"{options.first.stem}-{options.second.stem}.html"
        page = options.output or options.second.with_name(name)
        make_folder(page.parent)
        page.write_text(render_comparison(comparison), encoding="utf-8")
    except TrajectoryError as error:
        raise RunError(str(error)) from error
    console = Console()
    console.print(comparison_table(comparison))
    console.print(f"page: {page}", markup=False, soft_wrap=True)
    return DONE
