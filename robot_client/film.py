"""What the camera saw during a run, with state and plan beside every frame: a DROID episode."""

import threading
import time
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera
from robot_client.errors import RecordingError, RobotClientError, StaleFrameError
from robot_client.recorder import Recorder
from robot_client.tasks import Task
from trajectories.errors import TrajectoryError
from trajectories.recorder import CameraSpec, EpisodeRecorder

Frame = npt.NDArray[np.uint8]

VIDEO_FPS = 10.0
#: DROID's name of an exterior camera; decides the video's file name.
VIEW = "left"
_MAX_VIDEO_FRAME_AGE_S = 1.0
_END_TIMEOUT_S = 20.0


class Film:
    """Records frame, state and signals from a thread of its own, so that no disk delays the loop.

    Args:
        arm: Connected; its state is read beside the loop.
        camera: Connected; also read by the loop.
        recorder: Knows the signals of the moment.
        attributes: For the episode's metadata, e.g. the model's name and hash.

    Attributes:
        is_success: The verdict for the metadata; set before the film ends.
        problem: Why the film is not whole; None while it is.

    Raises:
        RecordingError: It cannot be begun.
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
        self._thread.join(_END_TIMEOUT_S)
        if self._thread.is_alive():
            text = f"camera, arm or disk did not answer for {_END_TIMEOUT_S:g} s at the end"
            self.problem = f"{text}; see `python -m trajectories recover {self._recorder.folder}`"

    def _film(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set() and self.problem is None:
            self._append()
            due = max(due + 1.0 / VIDEO_FPS, time.monotonic())
            self._ending.wait(due - time.monotonic())
        if self.problem is None:
            self._append()  # where the run has ended
        try:
            self._episode.close(self.is_success)
        except (TrajectoryError, OSError) as failure:
            self.problem = self.problem or str(failure)

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
