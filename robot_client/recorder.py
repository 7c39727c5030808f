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

After a power cut `python -m trajectories recover FOLDER` publishes what is whole.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera
from robot_client.codec import encode_image
from robot_client.errors import RecordingError, RobotClientError, RunError, StaleFrameError
from robot_client.records import Event, StepRecord
from robot_client.supervisor import Truth
from robot_client.tasks import Task
from trajectories import poses
from trajectories.errors import TrajectoryError
from trajectories.recorder import CameraSpec, EpisodeRecorder

Frame = npt.NDArray[np.uint8]

VIDEO_FPS = 10.0
#: DROID's name of an exterior camera; decides the video's file name.
VIEW = "left"
_MAX_VIDEO_FRAME_AGE_S = 1.0


class Recorder:
    """Writes one run's folder, but for the film.

    Args:
        folder: The run's own folder, see `make_folder`.
        task: The task of this run.
        goals: Goal images uint8 RGB [H, W, 3], one per sub-goal.
        config: How it is run, as plain values.
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
        for index, goal in enumerate(goals):
            write_png(self.folder / f"goal-{index}.png", goal)
        self._lines = (self.folder / "episode.jsonl").open("a", encoding="utf-8")
        self._events = (self.folder / "events.jsonl").open("a", encoding="utf-8")
        write_json(self.folder / "task.json", task.model_dump(mode="json"))
        write_json(self.folder / "config.json", config or {})

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

    def add(self, record: StepRecord, truth: Truth | None = None) -> None:
        """Append one pass of the loop, with the simulator's truth where there is one."""
        self.goal_index = min(record.goal_index, len(self._goals) - 1)
        if record.captured is not None and not self._has_start:
            write_png(self.folder / "start.png", record.captured.frame)
            self._has_start = True
        pose = None if record.state is None else record.state.pose
        line = {"time": _now(), **as_json(record)}
        line["simulator_truth"] = None if truth is None else asdict(truth)
        line["sub_goal"] = self._task.sub_goals[self.goal_index].name
        if pose is not None and self._previous_pose is not None:
            line["moved"] = poses.difference(self._previous_pose, pose).tolist()
        self._previous_pose = pose
        self.signals = signals_of(record)
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def note(self, event: Event) -> None:
        """Append an event."""
        line = {"time": _now(), "kind": event.kind, "text": event.text, **event.values}
        self._events.write(json.dumps(line) + "\n")
        self._events.flush()

    def goal(self) -> Frame:
        """Goal image of the sub-goal under way."""
        return self._goals[self.goal_index]

    def summarise(self, values: dict[str, Any]) -> None:
        """Write the summary, replacing an earlier one as a whole."""
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


class Film:
    """Records frame, state and signals from a thread of its own, so that no disk delays the loop.

    Args:
        arm: Connected; its state is read beside the loop.
        camera: Connected; also read by the loop.
        recorder: Knows the signals of the moment.
        attributes: For the episode's metadata, e.g. the model's name and hash.
    """

    def __init__(
        self, arm: Arm, camera: Camera, recorder: Recorder, task: Task, attributes: dict[str, Any]
    ) -> None:
        self._arm = arm
        self._camera = camera
        self._recorder = recorder
        self._ending = threading.Event()
        frame = _even(camera.newest(_MAX_VIDEO_FRAME_AGE_S).frame)
        height, width = frame.shape[:2]
        try:
            self._episode = EpisodeRecorder(
                recorder.folder,
                {VIEW: CameraSpec((height, width))},
                fps=VIDEO_FPS,
                task=task.description,
                attributes=attributes,
            )
        except (TrajectoryError, OSError) as error:
            text = f"no episode can be recorded in {recorder.folder}: {error}"
            raise RecordingError(text) from error
        self.is_success: bool | None = None
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._film, name="film", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join(timeout=5.0)
        try:
            self._episode.close(self.is_success)
        except (TrajectoryError, OSError) as failure:
            self.problem = self.problem or str(failure)

    def _film(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set() and self.problem is None:
            self._append()
            due = max(due + 1.0 / VIDEO_FPS, time.monotonic())
            self._ending.wait(due - time.monotonic())

    def _append(self) -> None:
        try:
            frame = _even(self._camera.newest(_MAX_VIDEO_FRAME_AGE_S).frame)
            state = self._arm.state()
            self._episode.append(state.pose, state.t, {VIEW: frame}, self._recorder.signals)
        except StaleFrameError:
            pass  # the loop reports it; the film has a gap
        except (RobotClientError, TrajectoryError, OSError) as error:
            # A full disk must not stop an arm; the run goes on without the film, and says so.
            self.problem = str(error)


def _even(frame: Frame) -> Frame:
    """Cut a row and a column that a video cannot have."""
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2])


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file so that readers see the old one or the new one, never half of it."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_png(path: Path, frame: Frame) -> None:
    """Write a uint8 RGB [H, W, 3] frame as PNG."""
    path.write_bytes(encode_image(frame, "png").data)


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
