"""One folder per run: every pass of the loop as a line, the camera beside the goal as a video.

    runs/<time>-<task>/
        episode.jsonl   one JSON object per pass, flushed at once; survives a crash
        camera.mp4      left the camera, right the goal of the sub-goal under way
        *.png           goal-0, goal-1, ..., and the first and last frame: start, end
        task.json       the task as it was read
        summary.json    written at the end, whole or not at all

The video is VP9 in MP4: browsers play it and OpenCV's own build writes it.
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

import cv2
import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from robot_client.cameras.camera import Camera
from robot_client.codec import encode_image
from robot_client.errors import RunError, StaleFrameError
from robot_client.loop import StepRecord
from robot_client.supervisor import Truth
from robot_client.tasks import Task
from trajectories import poses

Frame = npt.NDArray[np.uint8]

VIDEO_FPS = 10.0
_SIDE_PX = 384
_MAX_VIDEO_FRAME_AGE_S = 1.0


class Recorder:
    """Writes one run's folder.

    Args:
        folder: The run's own folder, see `make_folder`.
        task: The task of this run.
        goals: Goal images uint8 RGB [H, W, 3], one per sub-goal.
    """

    def __init__(self, folder: Path, task: Task, goals: Sequence[Frame]) -> None:
        self._task = task
        self._goals = goals
        self._previous_pose: npt.NDArray[np.float64] | None = None
        self.goal_index = 0
        self._has_start = False
        self.folder = folder
        for index, goal in enumerate(goals):
            write_png(self.folder / f"goal-{index}.png", goal)
        self._lines = (self.folder / "episode.jsonl").open("a", encoding="utf-8")
        write_json(self.folder / "task.json", task.model_dump(mode="json"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()

    def add(self, record: StepRecord, truth: Truth | None = None) -> None:
        """Append one pass of the loop, with the simulator's truth where there is one."""
        self.goal_index = min(record.goal_index, len(self._goals) - 1)
        if record.captured is not None and not self._has_start:
            write_png(self.folder / "start.png", record.captured.frame)
            self._has_start = True
        pose = None if record.state is None else record.state.pose
        line = {"time": datetime.now(timezone.utc).isoformat(), **as_json(record)}
        line["simulator_truth"] = None if truth is None else asdict(truth)
        line["sub_goal"] = self._task.sub_goals[self.goal_index].name
        if pose is not None and self._previous_pose is not None:
            line["moved"] = poses.difference(self._previous_pose, pose).tolist()
        self._previous_pose = pose
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def goal(self) -> Frame:
        """Goal image of the sub-goal under way."""
        return self._goals[self.goal_index]

    def summarise(self, values: dict[str, Any]) -> None:
        """Write the summary, replacing an earlier one as a whole."""
        write_json(self.folder / "summary.json", values)


def as_json(record: StepRecord) -> dict[str, Any]:
    """One pass as plain values: raw and filtered action, state, energies, timings, warnings.

    `moved` (added by the recorder) is what the arm really did since the pass before.
    """
    act, filtered = record.act, record.filtered
    line: dict[str, Any] = {
        "step": record.step,
        "goal_index": record.goal_index,
        "state": None if record.state is None else record.state.pose.tolist(),
        "is_executed": record.is_executed,
        "gripper": record.gripper,
        "latency_ms": record.latency_ms,
        "problem": record.problem,
    }
    if act is not None:
        line |= {
            "seq": act.seq,
            "raw_actions": act.actions.tolist(),
            "energy": act.energy,
            "energy_now": act.energy_now,
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


class VideoThread:
    """Films the run from its own thread, so that a slow disk never delays the loop.

    Args:
        path: The video file.
        camera: Connected; also read by the loop.
        recorder: Knows the goal of the moment.
    """

    def __init__(self, path: Path, camera: Camera, recorder: Recorder) -> None:
        self._camera = camera
        self._recorder = recorder
        self._ending = threading.Event()
        size = (2 * _SIDE_PX, _SIDE_PX)
        fourcc = cv2.VideoWriter.fourcc(*"vp09")
        self._writer = cv2.VideoWriter(str(path), fourcc, VIDEO_FPS, size)
        if not self._writer.isOpened():
            raise RunError(f"no video can be written to {path}; is the disk full or read-only?")
        self._thread = threading.Thread(target=self._film, name="video", daemon=True)

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
        self._writer.release()

    def _film(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                frame = self._camera.newest(_MAX_VIDEO_FRAME_AGE_S).frame
                beside = np.hstack([_square(frame), _square(self._recorder.goal())])
                self._writer.write(np.ascontiguousarray(beside[..., ::-1]))
            except StaleFrameError:
                pass  # the loop reports it; the film has a gap
            due = max(due + 1.0 / VIDEO_FPS, time.monotonic())
            self._ending.wait(due - time.monotonic())


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


def _square(frame: Frame) -> Frame:
    """Fit a frame into the video's square, sides kept in proportion, black around."""
    height, width = frame.shape[:2]
    scale = _SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    square = np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8)
    top, left = (_SIDE_PX - size[1]) // 2, (_SIDE_PX - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square
