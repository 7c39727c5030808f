"""One recorded run of a robot, whatever it was stored as.

Row i of `states`, `times_s` and every signal belongs to frame i of every camera. Numbers are in
memory (some tens of kB); frames are decoded when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from trajectories import poses
from trajectories.cameras import CameraStream, Rows, SelectedCamera
from trajectories.errors import Defect, InvalidEpisodeError, MissingCameraError

Array = NDArray[Any]

Clock = Literal["measured", "nominal"]


@dataclass(frozen=True)
class Provenance:
    """Where an episode comes from.

    Attributes:
        format: `droid_raw`, `lerobot_v2.1`, `lerobot_v3.0`, `rlds`, `vjepa2_npz` or `shards`.
        location: Its folder or file, with the place inside where a file holds many.
        attributes: What the source says about it (uuid, lab, robot serial, ...); JSON values.
    """

    format: str
    location: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Episode:
    """States, frames and what is known about one run.

    Attributes:
        name: Unique within its data set.
        states: Measured poses of the flange in the base frame, float64 `[T, 7]` (see `poses`).
        times_s: When each row was measured, float64 `[T]`, ascending from 0.
        cameras: Streams of T frames each, by view: `left`, `right` (fixed, beside the robot),
            `wrist`, or the source's own names.
        clock: `measured` if `times_s` was recorded, `nominal` if it follows from a rate in the file.
        task: What was to be done, in words; empty when nobody wrote it down.
        success: Whether it was done; None when unknown.
        extrinsics: Pose of a camera in the base frame, float64 `[T, 6]` (m, extrinsic xyz Euler
            rad), by view; absent when the source has none or zeros.
        signals: Everything else that was recorded per row, `[T, ...]`, under its path in a DROID
            `trajectory.h5`, for example `action/cartesian_position` (the command, not the motion).
        provenance: Where it comes from.
        warnings: What is odd about it but does not make it useless.
    """

    name: str
    states: NDArray[np.float64]
    times_s: NDArray[np.float64]
    cameras: Mapping[str, CameraStream]
    clock: Clock
    provenance: Provenance
    task: str = ""
    success: bool | None = None
    extrinsics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    signals: Mapping[str, Array] = field(default_factory=dict)
    warnings: tuple[Defect, ...] = ()

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        views = ", ".join(self.cameras) or "no camera"
        return f"<Episode {self.name}: {len(self)} rows, {self.duration_s:.1f} s, {views}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def actions(self) -> NDArray[np.float64]:
        """Measured motion from each row to the next, float64 `[T - 1, 7]` (see `poses`)."""
        return np.asarray(poses.difference(self.states[:-1], self.states[1:]), np.float64)

    @property
    def duration_s(self) -> float:
        """Time from the first row to the last [s]."""
        return float(self.times_s[-1] - self.times_s[0])

    @property
    def fps(self) -> float:
        """Rows per second of real time, by the median distance of rows; 0 for a single row."""
        if len(self) < 2:
            return 0.0
        return float(1.0 / np.median(np.diff(self.times_s)))

    def camera(self, view: str) -> CameraStream:
        """The stream of one view.

        Raises:
            MissingCameraError: There is none of that name.
        """
        try:
            return self.cameras[view]
        except KeyError:
            raise MissingCameraError(
                f"{self.name} has no camera {view!r}; it has {', '.join(self.cameras) or 'none'}"
            ) from None

    def select(self, rows: Rows) -> Episode:
        """The same run at some of its rows only; `times_s` starts at 0 again.

        Args:
            rows: Ascending row indices, for example of `trajectories.clock`.
        """
        chosen = np.asarray(rows, dtype=np.int64).reshape(-1)
        if not chosen.size or (np.diff(chosen) <= 0).any() or chosen[0] < 0:
            raise InvalidEpisodeError(f"rows of {self.name} have to be ascending, not {rows}")
        if chosen[-1] >= len(self):
            raise InvalidEpisodeError(f"{self.name} has {len(self)} rows, not {chosen[-1] + 1}")
        times_s = self.times_s[chosen]
        return replace(
            self,
            states=self.states[chosen],
            times_s=times_s - times_s[0],
            cameras={view: SelectedCamera(s, chosen) for view, s in self.cameras.items()},
            extrinsics={view: pose[chosen] for view, pose in self.extrinsics.items()},
            signals={name: values[chosen] for name, values in self.signals.items()},
        )

    def in_camera_frame(self, view: str) -> Episode:
        """The same run with `states` as seen from a camera instead of from the base.

        Raises:
            MissingCameraError: The pose of that camera is not known.
        """
        if view not in self.extrinsics:
            raise MissingCameraError(
                f"{self.name} does not say where camera {view!r} stood; "
                f"known: {', '.join(self.extrinsics) or 'none'}"
            )
        seen = poses.seen_from(self.extrinsics[view], self.states)
        return replace(self, states=np.asarray(seen, np.float64))

    def close(self) -> None:
        """Close the files of all cameras; reading opens them again."""
        for stream in self.cameras.values():
            stream.close()
