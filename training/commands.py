"""What the command line offers: trainings, each with its recipe, and how any of them is started."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from training.config import TrainingRecipe, load_recipe
from training.distributed import World, open_world
from training.loop import Outcome, Training, train
from training.run_folder import RunFolder, open_run_folder

RecipeT = TypeVar("RecipeT", bound=TrainingRecipe)
UNFINISHED = 75  # exit status of a run that was asked to stop: "try again" of sysexits.h


def _no_arguments(parser: ArgumentParser) -> None:
    """Add nothing."""


def data_changes(options: Namespace) -> list[str]:
    """Turn `--data PATH` and `--data NAME=PATH` into changes of a recipe with several sources."""
    pairs = [text.partition("=") for text in options.data]
    return [
        f"data.{name}.path={path}" if equals else f"data.*.path={name}"
        for name, equals, path in pairs
    ]


@dataclass(frozen=True)
class Command(Generic[RecipeT]):
    """A training as the command line knows it.

    Attributes:
        name: The command.
        help: What it does, in a line.
        recipe: What its YAML files describe.
        build: Makes the training from its recipe, the command line and the processes.
        plan: Describes what a recipe asks for, without doing any of it.
        add_arguments: Adds options of its own.
        changes: Turns options of the command line into changes of the recipe (`key.key=value`).
        carry_out: Runs what was built, in its run folder.
        epilogue: What `--help` says after the options.
    """

    name: str
    help: str
    recipe: type[RecipeT]
    build: Callable[[RecipeT, Namespace, World], Training[Any]]
    plan: Callable[[RecipeT], str]
    add_arguments: Callable[[ArgumentParser], None] = _no_arguments
    changes: Callable[[Namespace], list[str]] = data_changes
    carry_out: Callable[[Training[Any], RecipeT, RunFolder, World], Outcome] = train
    epilogue: str = ""

    def add_to(self, commands: Any) -> None:
        """Add this command to those of the command line."""
        parser: ArgumentParser = commands.add_parser(
            self.name,
            help=self.help,
            description=self.help,
            epilog=self.epilogue,
            formatter_class=RawDescriptionHelpFormatter,
        )
        parser.add_argument("--config", type=Path, required=True, help="recipe (YAML)")
        parser.add_argument("--output", type=Path, help="run folder to write, or to continue")
        parser.add_argument(
            "--data",
            action="append",
            default=[],
            metavar="[NAME=]PATH",
            help="where the data lie, instead of the recipe's paths; repeat it for several sources",
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="replace a value of the recipe, for example run.workers=4",
        )
        parser.add_argument("--dry-run", action="store_true", help="print plan and cost, and stop")
        parser.add_argument(
            "--slurm", action="store_true", help="submit to SLURM as `run.slurm` of the recipe says"
        )
        self.add_arguments(parser)
        parser.set_defaults(start=self.start)

    def start(self, options: Namespace) -> int:
        """Do what the command line asks for; return the exit status."""
        recipe = load_recipe(options.config, self.recipe, [*self.changes(options), *options.set])
        if options.dry_run:
            sys.stdout.write(self.plan(recipe) + "\n")
            return 0
        if options.output is None:
            raise SystemExit("--output is required (or --dry-run)")
        if options.slurm:
            return _submit(options.output, recipe)
        with open_world(recipe.run) as world:
            folder = open_run_folder(options.output, self.name, recipe, world)
            outcome = self.carry_out(self.build(recipe, options, world), recipe, folder, world)
        if outcome.is_finished:
            return 0
        sys.stderr.write(
            f"stopped after {outcome.step} of {recipe.steps} updates; start the same command again "
            "to continue\n"
        )
        return UNFINISHED


def _submit(output: Path, recipe: TrainingRecipe) -> int:
    from training.slurm import submit

    arguments: Sequence[str] = [word for word in sys.argv[1:] if word != "--slurm"]
    job = submit(arguments, output, recipe.run.slurm)
    sys.stdout.write(f"submitted job {job.job_id}; its output goes to {job.paths.folder}\n")
    return 0
