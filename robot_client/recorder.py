"""One folder per run: a DROID episode that survives a power cut, and every pass of the loop as a line.

    runs/<time>-<task>/
        recordings/MP4/left.mp4  what the camera saw, H.264
        trajectory.h5            one row per frame: state, target, energies; DROID's raw layout
        metadata_*.json          makes the folder an episode; written at the end
        episode.jsonl            one JSON object per pass, flushed at once
        events.jsonl             orders, holds, reflexes, retries, with their time
        *.png                    goal-0, goal-1, ..., and the first and last frame: start, end
        task.json, config.json   the task as it was read; how it was run
        summary.json             written at the end, whole or not at all

After a power cut `python -m trajectories recover FOLDER` publishes what is whole. On a full disk the
run goes on: its arm, its checks and its deadlines need no disk, and stopping in the middle of a grasp is
no safer. Lines that find no room are counted and told of, those before them stay whole, and once there is
room again further ones are written.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from robot_client.codec import encode_image
from robot_client.errors import RecordingError, RunError
from robot_client.records import Event, StepRecord
from robot_client.supervisor import Truth
from robot_client.tasks import Task
from trajectories import poses
from trajectories.json_lines import JsonLines
from trajectories.storage import write_whole

Frame = npt.NDArray[np.uint8]


class Recorder:
    """Writes one run's folder, but for the film.

    Args:
        folder: The run's own folder, see `make_folder`.
        task: The task of this run.
        goals: Goal images uint8 RGB [H, W, 3], one per sub-goal.
        config: How it is run, as plain values.

    Attributes:
        signals: What goes beside the film's frames just now.
        problem: Why something could not be written, first; None while all is whole.
        lost: So many lines and pictures are missing.

    Raises:
        RecordingError: Not even the beginning can be written.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        goals: Sequence[Frame],
        config: dict[str, Any] | None = None,
    ) -> None:
        self._task = task
        self._goals = goals
        self._previous_pose: npt.NDArray[np.float64] | None = None
        self._has_start = False
        self.goal_index = 0
        self.folder = folder
        self.signals = signals_of(None)
        self.problem: str | None = None
        self.lost = 0
        try:
            for index, goal in enumerate(goals):
                write_png(self.folder / f"goal-{index}.png", goal)
            self._lines = JsonLines(self.folder / "episode.jsonl")
            self._events = JsonLines(self.folder / "events.jsonl")
            write_json(self.folder / "task.json", task.model_dump(mode="json"))
            write_json(self.folder / "config.json", config or {})
        except OSError as error:
            raise RecordingError(f"nothing can be recorded in {folder}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._events.close()

    def show(self, record: StepRecord) -> None:
        """Let the film's rows carry a plan, from the moment that the arm begins to follow it."""
        self.signals = signals_of(record)

    def add(self, record: StepRecord, truth: Truth | None = None) -> None:
        """Append one pass of the loop, with the simulator's truth where there is one."""
        self.goal_index = min(record.goal_index, len(self._goals) - 1)
        self.signals = signals_of(record)
        pose = None if record.state is None else record.state.pose
        line = {"time": _now(), **as_json(record)}
        line["simulator_truth"] = None if truth is None else asdict(truth)
        line["sub_goal"] = self._task.sub_goals[self.goal_index].name
        if pose is not None and self._previous_pose is not None:
            line["moved"] = poses.difference(self._previous_pose, pose).tolist()
        self._previous_pose = pose
        with self._losing():
            self._lines.add(line)
        if record.captured is not None and not self._has_start:
            self._has_start = True
            with self._losing():
                write_png(self.folder / "start.png", record.captured.frame)

    def note(self, event: Event) -> None:
        """Append an event."""
        with self._losing():
            self._events.add(
                {"time": _now(), "kind": event.kind, "text": event.text, **event.values}
            )

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """What cannot be written is counted instead of ending the run."""
        try:
            yield
        except (OSError, RecordingError) as error:
            self.lost += 1
            self.problem = self.problem or str(error)

    def goal(self) -> Frame:
        """Goal image of the sub-goal under way."""
        return self._goals[self.goal_index]

    def summarise(self, values: dict[str, Any]) -> None:
        """Write the summary, replacing an earlier one as a whole.

        Raises:
            OSError: It cannot be written.
        """
        write_json(self.folder / "summary.json", values)


def as_json(record: StepRecord) -> dict[str, Any]:
    """One pass as plain values: raw and filtered action, state, energies, timings, findings.

    `moved` (added by the recorder) is what the arm really did since the pass before.
    """
    act, filtered = record.act, record.filtered
    line: dict[str, Any] = {
        "step": record.step,
        "goal_index": record.goal_index,
        "state": None if record.state is None else record.state.pose.tolist(),
        "is_ahead": record.is_ahead,
        "is_executed": record.is_executed,
        "left_m": record.left_m,
        "cut_short": record.cut_short,
        "gripper": record.gripper,
        "latency_ms": record.latency_ms,
        "timings_ms": record.timings_ms,
        "problem": record.problem,
        "findings": [found.as_json() for found in filtered.findings] if filtered else [],
    }
    if act is not None:
        line |= {
            "seq": act.seq,
            "raw_actions": act.actions.tolist(),
            "predicted_states": act.predicted_states.tolist(),
            "energy": act.energy,
            "energy_now": act.energy_now,
            "surprise": act.surprise,
            "encode_ms": act.encode_ms,
            "plan_ms": act.plan_ms,
            "queue_ms": act.queue_ms,
            "evaluations": act.evaluations,
            "dropped": act.dropped,
        }
    if filtered is not None:
        line["filtered_action"] = filtered.action.tolist()
        line["target"] = filtered.target.tolist()
    warnings = (*(act.warnings if act else ()), *(filtered.warnings if filtered else ()))
    line["warnings"] = list(warnings)
    return line


def signals_of(record: StepRecord | None) -> dict[str, Any]:
    """What goes beside every frame: the newest plan and what was made of it; zeros before the first."""
    act = None if record is None else record.act
    filtered = None if record is None else record.filtered
    target = np.zeros(poses.POSE_DIM) if filtered is None else filtered.target
    return {
        "action/cartesian_position": target[:6],
        "action/gripper_position": float(target[6]),
        "action/raw": np.zeros(poses.POSE_DIM) if act is None else act.actions[0],
        "action/filtered": np.zeros(poses.POSE_DIM) if filtered is None else filtered.action,
        "action/is_executed": record is not None and record.is_executed,
        "planner/seq": -1 if act is None else act.seq,
        "planner/goal_index": 0 if record is None else record.goal_index,
        "planner/energy": 0.0 if act is None else act.energy,
        "planner/energy_now": 0.0 if act is None else act.energy_now,
        "planner/plan_ms": 0.0 if act is None else act.plan_ms,
        "planner/latency_ms": 0.0 if record is None else float(record.latency_ms or 0.0),
    }


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file so that readers see the old one or the new one, never half of it."""
    text = json.dumps(values, indent=2) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_png(path: Path, frame: Frame) -> None:
    """Write a uint8 RGB [H, W, 3] frame as PNG.

    Raises:
        RecordingError: It cannot be written.
    """
    try:
        path.write_bytes(encode_image(frame, "png").data)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}") from error


def make_folder(root: Path, name: str) -> Path:
    """Make a new folder `<root>/<time>-<name>`; a number is added where it exists.

    Raises:
        RunError: It cannot be made.
    """
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(100):
        folder = root / (f"{stamp}-{name}" if attempt == 0 else f"{stamp}-{name}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"cannot make {folder}: {error}; choose another with --runs") from error
        return folder
    raise RunError(f"{root} has a hundred runs of this very second")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
