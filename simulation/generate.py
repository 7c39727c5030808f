"""Training data in bulk: many episodes, several processes, one result whatever their number.

Episodes are seeded by their index and grouped into shards of fixed size; a worker simulates whole
shards. A shard appears when it is complete, so an interrupted run is continued by starting it
again.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulation.episodes import STORED_SIZE, simulate_episode
from simulation.errors import OutputExistsError
from simulation.recipe import Recipe
from trajectories.shards import ShardWriter

EPISODES_PER_SHARD = 50
_RECIPE_FILE = "generation.json"


@dataclass(frozen=True)
class _ShardJob:
    directory: Path
    recipe: Recipe
    first: int
    count: int


def generate(output: Path, recipe: Recipe, workers: int = 2) -> int:
    """Simulate a data set into `output`, or continue one that was interrupted.

    Args:
        output: Folder of the data set; must be new, empty or an interrupted run of `recipe`.
        recipe: What to simulate.
        workers: Processes to use; the data do not depend on it.

    Returns:
        Number of episodes simulated now (not counting shards that were there already).

    Raises:
        OutputExistsError: The folder holds something else.
    """
    claim(output, recipe)
    jobs = [job for job in _jobs(output, recipe) if not job.directory.exists()]
    total = sum(job.count for job in jobs)
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns) as progress,
        # A fresh interpreter per worker: OpenGL contexts do not survive a fork.
        multiprocessing.get_context("spawn").Pool(max(1, workers)) as pool,
    ):
        bar = progress.add_task("episodes", total=total)
        for count in pool.imap_unordered(_write_shard, jobs):
            progress.advance(bar, count)
    return total


def claim(output: Path, recipe: Recipe) -> None:
    """Make `output` the folder of `recipe`, or find that it is already.

    Raises:
        OutputExistsError: The folder is not empty and was not begun with the same recipe.
    """
    note = output / _RECIPE_FILE
    if note.is_file():
        found = _noted(note)
        asked = recipe.model_dump(mode="json")
        # As texts: motions are drawn by their place in the recipe, so their order belongs to it.
        if json.dumps(found) != json.dumps(asked):
            raise OutputExistsError(
                f"{output} holds a data set made with {found}, not {asked}; "
                "give the same recipe to continue it, or another folder"
            )
        return
    if output.exists() and any(output.iterdir()):
        raise OutputExistsError(f"{output} is not empty and not a data set of ours; give another")
    output.mkdir(parents=True, exist_ok=True)
    note.write_text(recipe.model_dump_json(indent=1))


def _noted(note: Path) -> Any:
    try:
        return json.loads(note.read_text())
    except ValueError as error:  # whatever ended that run ended it while it began
        raise OutputExistsError(
            f"{note} is no recipe ({error}); delete it, or give another folder"
        ) from error


def _jobs(output: Path, recipe: Recipe) -> list[_ShardJob]:
    starts = range(0, recipe.episodes, EPISODES_PER_SHARD)
    return [
        _ShardJob(
            directory=output / f"shard-{number:05d}",
            recipe=recipe,
            first=first,
            count=min(EPISODES_PER_SHARD, recipe.episodes - first),
        )
        for number, first in enumerate(starts)
    ]


def _write_shard(job: _ShardJob) -> int:
    attributes = {**job.recipe.model_dump(mode="json"), "first_episode": job.first}
    writer = ShardWriter(job.directory, job.recipe.episode_length, STORED_SIZE, attributes)
    for index in range(job.first, job.first + job.count):
        episode = simulate_episode(job.recipe, index)
        writer.append(episode.frames, episode.states, episode.motion)
    writer.close()
    return job.count
