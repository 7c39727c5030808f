"""Look at one episode and say what it is and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trajectories.batch import camera_defect
from trajectories.cameras import CameraStream
from trajectories.dataset import Dataset
from trajectories.episode import Episode
from trajectories.errors import BadEpisodeError, Defect, LengthMismatchError, TrajectoryError

UNKNOWN_FRAMES = -1


@dataclass(frozen=True)
class Finding:
    """What is known about one episode.

    Attributes:
        index: Number in its data set.
        name: What the data set calls it.
        location: Where it lies; `trajectories.dataset.open_episode` takes it.
        rows: Of its table; 0 when that cannot be read.
        fps: Rows per second of real time.
        duration_s: From the first row to the last.
        video_fps: Rate at which its first video says it plays; 0 when unknown. Not a clock.
        clock: `measured`, `nominal`, or empty when unknown.
        task: In words.
        success: None when unknown.
        views: Its cameras.
        frames: Frames of each of them, -1 when they cannot be counted.
        defects: What makes it useless.
        warnings: What is odd about it.
    """

    index: int
    name: str
    location: str = ""
    rows: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    video_fps: float = 0.0
    clock: str = ""
    task: str = ""
    success: bool | None = None
    views: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    defects: tuple[Defect, ...] = ()
    warnings: tuple[Defect, ...] = field(default=())

    @property
    def is_usable(self) -> bool:
        """Whether nothing fatal was found."""
        return not self.defects


def inspect(dataset: Dataset, index: int) -> Finding:
    """Look at one episode and the tables of its video files; whatever is wrong with it becomes a defect."""
    name = dataset.name(index)
    try:
        episode = dataset.open(index)
    except BadEpisodeError as error:
        return Finding(index, name, f"{dataset.root}#{index}", defects=error.defects)
    with episode:
        return replace(_describe(episode), index=index, name=name)


def inspect_frames(dataset: Dataset, index: int) -> Finding:
    """Look at one episode and decode every frame of it."""
    finding = inspect(dataset, index)
    if finding.rows == 0:
        return finding
    with dataset.open(index) as episode:
        broken = [
            camera_defect(view, error)
            for view, stream in episode.cameras.items()
            if (error := _first_error(stream)) is not None
        ]
    known = {str(defect) for defect in finding.defects}
    new = tuple(defect for defect in broken if str(defect) not in known)
    return replace(finding, defects=finding.defects + new)


def _describe(episode: Episode) -> Finding:
    looks = [_look(view, stream) for view, stream in episode.cameras.items()]
    return Finding(
        index=0,
        name=episode.name,
        location=episode.provenance.location,
        rows=len(episode),
        fps=episode.fps,
        duration_s=episode.duration_s,
        video_fps=next((look.fps for look in looks if look.fps), 0.0),
        clock=episode.clock,
        task=episode.task,
        success=episode.success,
        views=tuple(episode.cameras),
        frames=tuple(look.frames for look in looks),
        defects=tuple(look.defect for look in looks if look.defect is not None),
        warnings=episode.warnings,
    )


@dataclass(frozen=True)
class _Look:
    """What one camera's file says."""

    frames: int = UNKNOWN_FRAMES
    fps: float = 0.0
    defect: Defect | None = None


def _look(view: str, stream: CameraStream) -> _Look:
    try:
        _ = stream.frame_size
        return _Look(len(stream), stream.nominal_fps or 0.0)
    except LengthMismatchError as error:
        return _Look(error.frames, defect=camera_defect(view, error))
    except (TrajectoryError, OSError) as error:
        return _Look(defect=camera_defect(view, error))


def _first_error(stream: CameraStream) -> Exception | None:
    try:
        for _ in stream.frames():
            pass
    except (TrajectoryError, OSError) as error:
        return error
    return None
