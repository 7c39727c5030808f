"""The commands of `python -m trajectories`; each takes its options and returns the exit status."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from trajectories import conversion, picture, recorder
from trajectories.conversion import Conversion
from trajectories.dataset import Dataset, open_dataset, open_episode
from trajectories.droid_raw import JOURNAL_FILE
from trajectories.episode import Episode
from trajectories.errors import TrajectoryError
from trajectories.index import build_index, read_index
from trajectories.inspection import inspect, inspect_frames
from trajectories.scan import scan

TOO_MANY_BAD = 2
_LISTED = 50

Bad = Sequence[tuple[str, Sequence[str]]]
"""Names of bad episodes, each with what is wrong."""


def index(options: argparse.Namespace) -> int:
    """Write what every episode is into a Parquet file."""
    dataset = open_dataset(options.path)
    inspector = inspect_frames if options.frames else inspect
    with _progress("indexing", len(dataset)) as advance:
        build_index(dataset, inspector, options.output, options.workers, lambda _: advance())
    _write(f"{len(dataset)} episodes indexed in {options.output}")
    rows = read_index(options.output, ["name", "is_usable", "defects"])
    bad = [(row["name"], row["defects"]) for row in rows if not row["is_usable"]]
    return _verdict(bad, options.max_bad)


def check(options: argparse.Namespace) -> int:
    """Decode everything and say what is wrong."""
    dataset = open_dataset(options.path)
    bad, odd = [], []
    with _progress("checking", len(dataset)) as advance:
        for finding in scan(dataset, inspect_frames, range(len(dataset)), options.workers):
            advance()
            if finding.warnings:
                odd.append((finding.name, [str(defect) for defect in finding.warnings]))
            if not finding.is_usable:
                bad.append((finding.name, [str(defect) for defect in finding.defects]))
    _write(f"{len(dataset)} episodes checked: {len(bad)} bad, {len(odd)} odd")
    _list("odd", odd)
    return _verdict(bad, options.max_bad)


def info(options: argparse.Namespace) -> int:
    """Describe a data set, and an episode if there is just one."""
    if "#" in options.path:
        with open_episode(options.path) as episode:
            _describe(episode)
        return 0
    dataset = open_dataset(options.path)
    _write(f"{dataset.root}: {dataset.format}, {len(dataset)} episodes")
    if len(dataset) == 1:
        with dataset.open(0) as episode:
            _describe(episode)
    for number in range(min(_LISTED, len(dataset)) if len(dataset) > 1 else 0):
        _write(f"  #{number} {dataset.name(number)}")
    if len(dataset) > _LISTED:
        _write(f"  ... and {len(dataset) - _LISTED} more; `index` lists them all")
    return 0


def convert(options: argparse.Namespace) -> int:
    """Write all episodes in another format."""
    dataset = open_dataset(options.path)
    return _convert(dataset, range(len(dataset)), options)


def export(options: argparse.Namespace) -> int:
    """Write some episodes, chosen by what they are."""
    dataset = open_dataset(options.path)
    chosen = _chosen(dataset, options)
    if not chosen:
        raise TrajectoryError(f"no episode of {dataset.root} is chosen; loosen the conditions")
    return _convert(dataset, chosen, options)


def show(options: argparse.Namespace) -> int:
    """Draw one episode."""
    with open_episode(options.path) as episode:
        _write(f"drawn in {picture.draw(episode, options.output, options.columns)}")
    return 0


def recover(options: argparse.Namespace) -> int:
    """Finish recordings that were interrupted."""
    journals = sorted(options.path.rglob(JOURNAL_FILE))
    for journal in journals:
        folder = recorder.recover(journal.parent)
        _write(f"{journal.parent}: {'recovered' if folder else 'held no whole row; removed'}")
    if not journals:
        _write(f"nothing to recover in {options.path}")
    return 0


def _convert(dataset: Dataset, indices: Sequence[int], options: argparse.Namespace) -> int:
    plan = Conversion(options.to, options.output, options.period_s, options.codec, options.fps)
    with _progress("writing", len(indices)) as advance:
        tally = conversion.convert(dataset, plan, indices, lambda _: advance())
    _write(f"{tally.good} episodes are in {options.output}")
    bad = [(error.name, [str(defect) for defect in error.defects]) for error in tally.bad]
    return _verdict(bad, options.max_bad)


def _chosen(dataset: Dataset, options: argparse.Namespace) -> list[int]:
    """Numbers of the episodes that meet all conditions."""
    numbers: Iterable[int] = range(len(dataset))
    if options.episodes is not None:
        numbers = _parse_numbers(options.episodes, len(dataset))
    if options.index is not None or options.task or options.success or options.min_rows:
        if options.index is None:
            raise TrajectoryError(
                "choosing by task, success or length needs --index FILE of `index`"
            )
        wanted = _pattern(options.task or "")
        kept = {
            row["name"]
            for row in read_index(options.index)
            if row["is_usable"]
            and wanted.search(row["task"])
            and (row["success"] or not options.success)
            and row["rows"] >= options.min_rows
        }
        numbers = [number for number in numbers if dataset.name(number) in kept]
    return list(numbers)[: options.limit]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise TrajectoryError(f"--task {text!r} is no regular expression: {error}") from error


def _parse_numbers(text: str, count: int) -> list[int]:
    """Read `0,4,10-19`."""
    numbers: list[int] = []
    for part in text.split(","):
        first, mark, last = part.strip().partition("-")
        if not first.isdecimal() or (mark and not last.isdecimal()):
            raise TrajectoryError(f"--episodes {text!r} is not like 0,4,10-19")
        numbers += range(int(first), int(last if mark else first) + 1)
    if numbers and max(numbers) >= count:
        raise TrajectoryError(f"--episodes {text!r} goes beyond the {count} episodes there are")
    return sorted(set(numbers))


def _describe(episode: Episode) -> None:
    low, high = episode.states.min(axis=0), episode.states.max(axis=0)
    _write(f"{episode.name}")
    _write(f"  task      {episode.task or '-'}")
    _write(f"  success   {'unknown' if episode.success is None else episode.success}")
    _write(
        f"  rows      {len(episode)} in {episode.duration_s:.2f} s "
        f"({episode.fps:.2f}/s, {episode.clock} clock)"
    )
    for view, stream in episode.cameras.items():
        height, width = stream.frame_size
        _write(f"  camera    {view}: {len(stream)} frames of {width}x{height}")
    for number, name in enumerate(("x [m]", "y [m]", "z [m]")):
        _write(f"  {name:9s} {low[number]:+.3f} .. {high[number]:+.3f}")
    _write(f"  gripper   {low[6]:.2f} .. {high[6]:.2f} (0 open, 1 closed)")
    _write(f"  signals   {', '.join(sorted(episode.signals)) or '-'}")
    _write(f"  from      {episode.provenance.format} {episode.provenance.location}")
    for warning in episode.warnings:
        _write(f"  odd       {warning}")


def _verdict(bad: Bad, max_bad: int | None) -> int:
    """Name the bad episodes; the exit status."""
    _list("bad", bad)
    if max_bad is not None and len(bad) > max_bad:
        sys.stderr.write(f"error: {len(bad)} bad episodes, {max_bad} are allowed (--max-bad)\n")
        return TOO_MANY_BAD
    return 0


def _list(word: str, episodes: Bad) -> None:
    """Count kinds of defects, and name the first episodes that have some."""
    kinds = Counter(text.partition(":")[0] for _, defects in episodes for text in defects)
    for kind, count in kinds.most_common():
        _write(f"  {word}: {kind}: {count}")
    for name, defects in episodes[:_LISTED]:
        _write(f"  {word}: {name}: {'; '.join(defects)}")
    if len(episodes) > _LISTED:
        _write(f"  ... and {len(episodes) - _LISTED} more")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
