"""Command line of the evaluation. Loads no simulator, for every process of a run imports this."""

from __future__ import annotations

import argparse
from pathlib import Path

from simulation.arguments import read_count, read_seed
from simulation.evaluation.conditions import CONDITIONS, FIRST_SEED
from simulation.evaluation.methods import DEFAULT_METHODS, GROUPS, METHODS
from simulation.variation import OBJECT_KINDS

OUTPUT = Path("runs/evaluation")
_TASKS = ("all", "reach", "grasp", "pick_and_place")
_METHODS_EPILOG = "methods, by group: " + "; ".join(
    f"{group}: {', '.join(each.name for each in METHODS.values() if each.group == group)}"
    for group in GROUPS
)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `evaluate`."""
    add = parser.add_argument
    parser.epilog = _METHODS_EPILOG
    add("--task", choices=_TASKS, default="all", help="default all")
    add("--seeds", type=read_count, default=50, help="episodes per row, default 50")
    add("--workers", type=read_count, default=2, help="episodes at the same time, default 2")
    add("--output", type=Path, default=OUTPUT, help=f"continued where it exists; default {OUTPUT}")
    add(
        "--methods",
        nargs="+",
        default=list(DEFAULT_METHODS),
        metavar="METHOD",
        help="methods, groups of methods, or all; default: shipped quick",
    )
    add("--policy", help="package.module:factory?option=value, in place of the shipped one")
    add("--model", help="folder of a world model, in place of the configured one")
    add("--objects", nargs="+", choices=OBJECT_KINDS, default=list(OBJECT_KINDS))
    add(
        "--conditions",
        nargs="+",
        choices=CONDITIONS,
        help="for all methods; default: all for the policy in question and the random encoder, "
        "unseen workcells (seeds) for the others",
    )
    add("--first-seed", type=read_seed, default=FIRST_SEED, help=f"default {FIRST_SEED}")
    add("--results", type=Path, help="results file; default results.json in the output folder")
    parser.set_defaults(run=_evaluate)


def add_card(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `card`."""
    add = parser.add_argument
    add("results", type=Path, help="results file of `evaluate`")
    add("files", type=Path, nargs="+", help="Markdown files with marks for the tables")
    add(
        "--episodes", type=Path, default=OUTPUT, help="folder of that run, for pictures of failures"
    )
    parser.set_defaults(run=_card)


def _evaluate(options: argparse.Namespace) -> int:
    from simulation.evaluation.command import run_evaluation

    return run_evaluation(options)


def _card(options: argparse.Namespace) -> int:
    from simulation.evaluation.command import write_card

    return write_card(options)
