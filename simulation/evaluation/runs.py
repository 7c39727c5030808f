"""Many episodes on several processes, into a folder that a later run continues.

A record appears when its episode is complete, so an interrupted run loses at most the episodes
under way. The folder remembers what it was made with; a run that would mix in other results is
refused. The records do not depend on the number of processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulation.errors import OutputExistsError
from simulation.evaluation.jobs import Job, Record, load, run_job, save
from simulation.evaluation.methods import Method
from simulation.evaluation.policy_process import PolicyProcess
from trajectories.storage import write_whole

NOTE = "evaluation.json"
VERSION = 1  # raised whenever the same job would give another episode

Origins = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Finished:
    """What a run left behind.

    Attributes:
        records: Of all jobs that were asked for, in their order.
        origins: By method: its policy, schedule, and what the policy says of itself.
        run_now: Episodes that had not been there before.
    """

    records: list[Record]
    origins: Origins
    run_now: int


def evaluate(
    jobs: Sequence[Job], methods: Sequence[Method], output: Path, workers: int = 2
) -> Finished:
    """Run jobs into `output`, or those that are missing there.

    Args:
        jobs: The episodes.
        methods: Of these jobs.
        output: Folder of the run; new, or begun with the same methods.
        workers: Processes with one episode each; a policy in a process of its own comes beside each.

    Raises:
        OutputExistsError: The folder holds something else, or these methods with another model.
        PolicyError: A policy cannot be made or fails.
    """
    by_name = {method.name: method for method in methods}
    missing = [job for job in jobs if not (output / job.path).is_file()]
    origins = claim(output, by_name)
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    _share_processors(workers)
    pool = ProcessPoolExecutor(
        max_workers=max(1, workers),
        # A fresh interpreter per worker: OpenGL contexts do not survive a fork.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_ignore_interrupts,
    )
    try:
        waiting = [pool.submit(_work, job, by_name[job.method], output) for job in missing]
        with Progress(*columns) as progress:
            bar = progress.add_task("episodes", total=len(jobs), completed=len(jobs) - len(missing))
            for each in as_completed(waiting):
                _end(each)
                progress.advance(bar)
    finally:
        pool.shutdown(cancel_futures=True)
    return Finished([load(job, output) for job in jobs], origins, len(missing))


def claim(output: Path, methods: Mapping[str, Method]) -> Origins:
    """Make `output` the folder of these methods, or find that it is already.

    Args:
        output: The folder.
        methods: Everything that is to be in it now; other methods may be there. Their policies are
            made once and asked what they are, for the model behind a name may have changed.

    Raises:
        OutputExistsError: It holds something else.
        PolicyError: A policy cannot be made.
    """
    note = output / NOTE
    found: Origins = {}
    if note.is_file():
        values = json.loads(note.read_text())
        if values["version"] != VERSION:
            raise OutputExistsError(
                f"{output} was made by version {values['version']} of the evaluation, this is "
                f"{VERSION}; give another folder"
            )
        found = values["methods"]
    elif output.exists() and any(output.iterdir()):
        raise OutputExistsError(f"{output} is not empty and no evaluation of ours; give another")
    said: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        origin = {**_named(method), "description": _describe(method, said)}
        if name in found:
            _compare(output, name, origin, found[name])
        found[name] = origin
    text = json.dumps({"version": VERSION, "methods": found}, indent=1)
    write_whole(note, lambda draft: draft.write_text(text))
    return {name: found[name] for name in methods}


def _named(method: Method) -> dict[str, Any]:
    return {"label": method.label, "policy": method.policy, "schedule": method.schedule}


def _describe(method: Method, said: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ask a policy what it is, or remember what it said."""
    spec = method.described_by
    if spec is None:
        return {}
    if str(spec) not in said:
        with PolicyProcess(spec) as policy:
            said[str(spec)] = policy.description
    return said[str(spec)]


def _compare(output: Path, name: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    if new != old:
        raise OutputExistsError(
            f"{output} has episodes of {name!r} made with {old}, not {new}; give another folder, "
            f"or delete {output / 'episodes' / name}"
        )


def _share_processors(workers: int) -> None:
    """Let the numerics of every worker use its share of the processors, where nobody has chosen."""
    share = max(1, (os.cpu_count() or 1) // max(1, workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))


def _end(future: Future[None]) -> None:
    future.result()


# --- in the workers -------------------------------------------------------------------------------


_policies: dict[str, PolicyProcess] = {}  # at most one: that of the method under way


def _ignore_interrupts() -> None:
    """Leave Ctrl+C to the first process, which lets episodes under way end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(job: Job, method: Method, output: Path) -> None:
    save(run_job(job, method, _policy(method)), output)


def _policy(method: Method) -> PolicyProcess | None:
    if method.policy in _policies:
        return _policies[method.policy]
    for policy in _policies.values():
        policy.close()
    _policies.clear()
    if method.sees_truth:
        return None
    _policies[method.policy] = PolicyProcess(method.spec)
    return _policies[method.policy]
