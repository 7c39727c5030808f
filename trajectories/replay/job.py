"""A replay as a person orders it: paths and options in; a folder with a page, JSON and Parquet out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trajectories.batch import Tally
from trajectories.errors import BadEpisodeError, Defect, TrajectoryError
from trajectories.replay.engine import PlannerUnderTest, Replay
from trajectories.replay.errors import ReplayError
from trajectories.replay.questions import TO_END, check_goal_steps
from trajectories.replay.report import Shown, render_report
from trajectories.replay.results import (
    PlannerCard,
    ReplayResult,
    Settings,
    write_json,
    write_parquet,
)
from trajectories.replay.selection import ANY_VIEW, CLOCKS, REAL_CLOCK, Selection
from trajectories.replay.terminal import summary_table

DONE, TOO_MANY_BAD = 0, 1

OpenPlanner = AbstractContextManager[PlannerUnderTest]


@dataclass(frozen=True)
class Job:
    """What to replay and where to leave what is found.

    Attributes:
        paths: Episodes or data sets.
        folder: New folder for the results.
        settings: How; without `goal_steps` the planner's own horizon.
        goal_steps: Control periods from each frame to its goal, `end`, or None for the horizon.
        limit: At most so many episodes.
        max_bad: Unusable episodes that are borne.
        landscapes: Steps per episode whose surroundings are mapped.
    """

    paths: tuple[str, ...]
    folder: Path
    settings: Settings
    goal_steps: int | str | None
    limit: int | None
    max_bad: int
    landscapes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every way of replaying shares; `job_of` reads them."""
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="episode or data set; also hf:// and gs://")
    add(
        "--goal-steps",
        type=_goal_steps,
        help="control periods from each frame to its goal, or `end` for the last frame "
        "(default: the planner's horizon)",
    )
    add("--every", type=_positive, default=1, help="ask at every n-th step (default %(default)s)")
    add(
        "--draws",
        type=_positive,
        help="draw so many steps at random instead (the published score takes 64)",
    )
    add("--view", default=ANY_VIEW, help="camera: left, right, wrist, ... (default: left if any)")
    add(
        "--clock",
        choices=CLOCKS,
        default=REAL_CLOCK,
        help="real timestamps, or the published code's trust in the video's frame rate",
    )
    add(
        "--candidates",
        type=_positive,
        default=128,
        help="random actions that the recorded one is ranked among (default %(default)s)",
    )
    add(
        "--landscape",
        action="store_true",
        help="map the energy around the largest motion of every episode",
    )
    add(
        "--landscapes-per-episode",
        type=_positive,
        default=1,
        help="with --landscape: around so many motions (default %(default)s)",
    )
    add("--max-episodes", type=_positive, help="stop after so many episodes")
    add("--max-bad", type=int, default=0, help="unusable episodes to bear (default %(default)s)")
    add("--seed", type=int, default=0, help="of every random number (default %(default)s)")
    add("--output", type=Path, help="new folder for the report (default: runs/<time>-replay)")


def job_of(options: argparse.Namespace) -> Job:
    """Read what `add_arguments` added."""
    return Job(
        paths=tuple(options.paths),
        folder=options.output or _usual_folder(),
        settings=Settings(
            goal_steps=1,
            every=options.every,
            draws=options.draws,
            seed=options.seed,
            view=options.view,
            clock=options.clock,
            candidates=options.candidates,
        ),
        goal_steps=options.goal_steps,
        limit=options.max_episodes,
        max_bad=options.max_bad,
        landscapes=options.landscapes_per_episode if options.landscape else 0,
    )


def carry_out(job: Job, planners: Sequence[OpenPlanner]) -> int:
    """Replay with one planner after the other, write everything, say where; returns the exit status.

    Raises:
        TrajectoryError: Nothing can be read, nothing is usable, or nothing can be written.
    """
    console = Console()
    if job.folder.exists():
        raise ReplayError(f"{job.folder} exists already; choose another with --output")
    shown: list[Shown] = []
    for planner in planners:
        with planner as opened:
            _check_alike(opened.card, [each.result.planner for each in shown])
            shown.append(_replay(job, opened, console))
    page = job.folder / "index.html"
    page.write_text(render_report(shown), encoding="utf-8")
    console.print(summary_table([each.result for each in shown]))
    bad = max(len(each.result.skipped) for each in shown)
    for skipped in shown[0].result.skipped:
        console.print(f"skipped {skipped.episode}: {skipped.reason}", style="yellow", markup=False)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
    return DONE if bad <= job.max_bad else TOO_MANY_BAD


def make_folder(folder: Path) -> None:
    """Make the folder for results.

    Raises:
        ReplayError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"cannot make {folder}: {error.strerror}; choose --output") from error


def _check_alike(card: PlannerCard, others: Sequence[PlannerCard]) -> None:
    """Refuse planners that would be asked different questions: they have no step in common to be shown beside."""
    for other in others:
        ours = card.control_period_s, card.horizon
        if ours != (other.control_period_s, other.horizon):
            raise ReplayError(
                f"{card.label} plans {card.horizon} steps of {card.control_period_s:g} s, {other.label} "
                f"{other.horizon} of {other.control_period_s:g} s; replay them one at a time"
            )


def _replay(job: Job, planner: PlannerUnderTest, console: Console) -> Shown:
    card = planner.card
    goal_steps = card.horizon if job.goal_steps is None else job.goal_steps
    check_goal_steps(goal_steps, card.horizon)
    settings = job.settings.model_copy(update={"goal_steps": goal_steps})
    selection = Selection.of(job.paths, settings, job.limit)
    tally = Tally()
    replay = Replay(planner, settings, job.landscapes)
    with _progress(console) as progress:
        task = progress.add_task(card.label, total=selection.count())
        for selected in selection.read(card.control_period_s, card.horizon, tally):
            try:
                replay.add(selected.episode, selected.view, selected.asked)
            except TrajectoryError as error:
                name = selected.episode.name
                tally.skip(BadEpisodeError(name, [Defect("not replayed", str(error))]))
            progress.update(task, completed=replay.episodes + len(tally.bad))
    result = replay.result(tally.bad)
    if not result.steps:
        reasons = "\n  ".join(map(str, tally.bad[:10]))
        raise ReplayError(f"none of {len(tally.bad)} episodes can be replayed:\n  {reasons}")
    return Shown(result, replay.thumbnails, _write(job.folder, result))


def _write(folder: Path, result: ReplayResult) -> tuple[str, ...]:
    """Write the machine-readable files; returns their names."""
    make_folder(folder)
    name = file_name(result.planner.label)
    while (folder / f"{name}.json").exists():  # two planners of one label
        name += "-2"
    write_json(folder / f"{name}.json", result)
    if write_parquet(folder / f"{name}.parquet", result.steps):
        return f"{name}.json", f"{name}.parquet"
    return (f"{name}.json",)


def file_name(label: str) -> str:
    """Turn a label into the name of a file."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in label) or "replay"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _usual_folder() -> Path:
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("runs") / f"{stamp}-replay"


def _goal_steps(text: str) -> int | str:
    return TO_END if text == TO_END else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}; a whole number of at least 1 is needed")
    return int(text)
