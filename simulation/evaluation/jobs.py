"""One episode as a job, and its record: what is laid out, run, written down and read again."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simulation.errors import ResultsError
from simulation.evaluation.conditions import Condition, vary
from simulation.evaluation.episode import EpisodeResult, Step, run_episode
from simulation.evaluation.failures import SubGoalEnd
from simulation.evaluation.methods import Method
from simulation.evaluation.policy import Policy
from simulation.stepper import OfflineWorkcell
from simulation.tasks import FAR_M, NEAR_M, Task, TaskName, make_task
from simulation.variation import ObjectKind
from simulation.verdicts import Verdict

Distance = Literal["near", "far"]

SHOWN_OBJECTS: tuple[ObjectKind, ...] = ("cup", "box", "cube", "bottle")
_DISTANCES_M: dict[Distance, tuple[float, float]] = {"near": NEAR_M, "far": FAR_M}
_FAR_REACH_STEPS = 12


@dataclass(frozen=True)
class Kind:
    """What is asked: a task, how far away it starts, and with which object.

    Attributes:
        object_kind: None lets the seed decide, as it does for reaching.
    """

    task: TaskName
    distance: Distance = "near"
    object_kind: ObjectKind | None = None

    def __str__(self) -> str:
        if self.task == "reach":
            return f"reach {self.distance}"
        return f"{self.task.replace('_', '-')} {self.object_kind or 'any object'}"


@dataclass(frozen=True)
class Job:
    """One episode to run."""

    method: str
    condition: Condition
    kind: Kind
    seed: int

    @property
    def path(self) -> Path:
        """Where its record lies in the folder of a run."""
        kind = self.kind
        parts = (kind.task, kind.distance, kind.object_kind or "any", self.condition, self.seed)
        return Path("episodes") / self.method / f"{'-'.join(map(str, parts))}.json"


@dataclass(frozen=True)
class Record:
    """An episode that has been run."""

    job: Job
    result: EpisodeResult
    elapsed_s: float


def kinds_of(tasks: Sequence[TaskName], objects: Sequence[ObjectKind]) -> list[Kind]:
    """Return what is asked of every method: reaching near and far, the others with every object."""
    kinds = [Kind("reach", "near"), Kind("reach", "far")] if "reach" in tasks else []
    manipulations = [task for task in tasks if task != "reach"]
    return kinds + [Kind(task, "near", each) for task in manipulations for each in objects]


def jobs_of(
    method: Method,
    conditions: Iterable[Condition],
    kinds: Sequence[Kind],
    seeds: Sequence[int],
) -> list[Job]:
    """Return the episodes of one method.

    In unseen workcells every object gets all seeds. Under the shifted conditions the seeds go
    through the objects in turns, so that each task has as many episodes there as one object here.
    """
    jobs = []
    for condition in conditions:
        for kind in kinds:
            jobs += [
                Job(method.name, condition, kind, seed)
                for seed in seeds
                if condition == "seeds" or _is_turn_of(kind, kinds, seed)
            ]
    return jobs


def _is_turn_of(kind: Kind, kinds: Sequence[Kind], seed: int) -> bool:
    same_task = [each for each in kinds if each.task == kind.task]
    if kind.task == "reach":
        return True
    return same_task[seed % len(same_task)] == kind


def lay_out(job: Job) -> Task:
    """Lay out the task of a job."""
    kind = job.kind
    variation = vary(job.seed, job.condition, kind.object_kind)
    task = make_task(kind.task, job.seed, _DISTANCES_M[kind.distance], variation=variation)
    if (kind.task, kind.distance) == ("reach", "far"):
        goal = dataclasses.replace(task.sub_goals[0], step_budget=_FAR_REACH_STEPS)
        task = dataclasses.replace(task, sub_goals=(goal,))
    return task


def run_job(job: Job, method: Method, policy: Policy | None) -> Record:
    """Run one episode.

    Args:
        job: Which.
        method: Of the job.
        policy: The policy, in its own process; None where it is made with the simulator.
    """
    started_s = time.monotonic()
    task = lay_out(job)
    workcell = OfflineWorkcell(task.variation)
    if policy is None:
        workcell.reset(task.start)
        policy = method.spec.make(task, workcell)
    result = run_episode(task, policy, method.order, workcell=workcell)
    return Record(job, result, time.monotonic() - started_s)


def save(record: Record, folder: Path) -> None:
    """Write a record, whole or not at all."""
    path = folder / record.job.path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(dataclasses.asdict(record)))
    draft.replace(path)


def load(job: Job, folder: Path) -> Record:
    """Read the record of a job.

    Raises:
        ResultsError: It cannot be read.
    """
    path = folder / job.path
    try:
        values = json.loads(path.read_text())
        return Record(job, _result(values["result"]), float(values["elapsed_s"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} is no record of an episode ({error}); delete it") from error


def _result(values: Mapping[str, Any]) -> EpisodeResult:
    return EpisodeResult(
        start_distance_m=values["start_distance_m"],
        steps=tuple(Step(**{**each, "action": tuple(each["action"])}) for each in values["steps"]),
        ends=tuple(
            SubGoalEnd(**{**each, "offset_m": tuple(each["offset_m"])}) for each in values["ends"]
        ),
        verdict=Verdict(**values["verdict"]),
        failure=values["failure"],
    )


def in_order(objects: Sequence[ObjectKind]) -> tuple[ObjectKind, ...]:
    """Return objects in the order of tables."""
    return tuple(kind for kind in SHOWN_OBJECTS if kind in objects)
