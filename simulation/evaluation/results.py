"""The results file of an evaluation: what was run, on what, and every number that a table shows."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.errors import ResultsError
from simulation.evaluation.conditions import CONDITION_MEANINGS
from simulation.evaluation.jobs import Job, Kind, Record
from simulation.evaluation.machine import processors
from simulation.evaluation.runs import Finished, Origins
from simulation.evaluation.summary import Row, as_json, from_json, summarise
from trajectories.storage import write_whole

_EPISODE_DIGITS = 4


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        rows: One per method, condition and kind of episode.
        labels: Of the methods, by name, the one that it is about first.
        about: Command, hardware, versions, time.
        origins: What every method was.
        failed: Jobs whose episodes failed, with the kind of failure.
    """

    rows: list[Row]
    labels: dict[str, str]
    about: dict[str, Any]
    origins: Origins
    failed: list[tuple[Job, str]]

    @property
    def main(self) -> str:
        """The method that the evaluation is about."""
        return next(iter(self.labels))

    def row(self, method: str, condition: str, kind: Kind) -> Row | None:
        """Return one row; None where nothing of the kind was run."""
        for row in self.rows:
            if (row.method, row.condition, row.kind) == (method, condition, kind):
                return row
        return None


def write(finished: Finished, command: str, elapsed_s: float, path: Path) -> Results:
    """Condense a run and write the results file."""
    document = {
        "command": command,
        "hardware": processors(),
        "python": platform.python_version(),
        "elapsed_s": round(elapsed_s),
        "episodes_run": finished.run_now,
        "conditions": CONDITION_MEANINGS,
        "methods": finished.origins,
        "rows": [as_json(row) for row in summarise(finished.records)],
        "episodes": [_brief(record) for record in finished.records],
    }
    write_whole(path, lambda draft: draft.write_text(_dump(document)))
    return read(path)


def read(path: Path) -> Results:
    """Read a results file.

    Raises:
        ResultsError: It is missing or something else.
    """
    try:
        document = json.loads(path.read_text())
        return Results(
            rows=[from_json(row) for row in document["rows"]],
            labels={name: origin["label"] for name, origin in document["methods"].items()},
            about={
                name: document[name]
                for name in ("command", "hardware", "python", "elapsed_s", "episodes_run")
            },
            origins=document["methods"],
            failed=[_failed(each) for each in document["episodes"] if each["failure"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} holds no results of `python -m simulation evaluate` ({error!r}); run it first"
        ) from error


def _brief(record: Record) -> dict[str, Any]:
    """Return what a table could be made from again, without the actions."""
    job, result = record.job, record.result
    return {
        "method": job.method,
        "condition": job.condition,
        "task": job.kind.task,
        "distance": job.kind.distance,
        "object": job.kind.object_kind,
        "seed": job.seed,
        "success": result.verdict.is_success,
        "failure": result.failure,
        "reason": result.verdict.reason,
        "start_m": round(result.start_distance_m, _EPISODE_DIGITS),
        "ends_m": [round(end.distance_m, _EPISODE_DIGITS) for end in result.ends],
        "steps": len(result.steps),
    }


def _failed(brief: Mapping[str, Any]) -> tuple[Job, str]:
    kind = Kind(brief["task"], brief["distance"], brief["object"])
    return Job(brief["method"], brief["condition"], kind, brief["seed"]), brief["failure"]


def _dump(document: Mapping[str, Any]) -> str:
    """Write JSON with one line per row and episode, so that changes can be read."""
    parts = []
    for name, value in document.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            lines = ",\n  ".join(json.dumps(each) for each in value)
            parts.append(f' "{name}": [\n  {lines}\n ]')
        else:
            parts.append(f' "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
