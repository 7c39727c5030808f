"""Reader of LeRobot data sets, v2.0, v2.1 (a file per episode) and v3.0 (many episodes a file).

The rows of one episode are read from its row groups and its frames are cut out of the video by
time; no other episode's data is touched. `timestamp` in these data sets is row / fps and thus
nominal; where the recorder's own stamps were kept beside it, those are the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import CameraStream, ImageCamera
from trajectories.defects import anomalies, refuse_unusable
from trajectories.droid_raw import CLOCK_KEY
from trajectories.episode import Array, Clock, Episode, Provenance
from trajectories.errors import BadEpisodeError, CorruptDataError, Defect
from trajectories.kinematics import flange_pose
from trajectories.lerobot.index import INFO_FILE, Entry, read_index, read_info
from trajectories.lerobot.keys import OUTCOME_COLUMN, KeyMap, choose_keys, column_of, signal_of
from trajectories.parquet import read_rows, read_table
from trajectories.storage import Location
from trajectories.video import VideoCamera

_CLOCK_COLUMN = column_of(CLOCK_KEY)
_CLOCK_SLACK_S = 1e-3


class LeRobotReader:
    """One LeRobot data set.

    Args:
        root: The folder with `meta/`.
        keys: Names of the columns, for data sets that are no port of DROID.

    Raises:
        UnknownFormatError: The version or the columns are not known.
        CorruptDataError: The meta data is incomplete or damaged.
    """

    def __init__(self, root: Location, keys: KeyMap | None = None) -> None:
        self.root = root
        self.info = read_info(root)
        self.version = str(self.info["codebase_version"])
        self.fps = float(self.info["fps"])
        self._features = {name: str(v["dtype"]) for name, v in self.info["features"].items()}
        self._keys = choose_keys(self._features, keys, str(root))
        self.index = read_index(root, self.info)

    def open_episode(self, entry: Entry, name: str) -> Episode:
        """Read the rows of one episode and prepare its cameras.

        Raises:
            BadEpisodeError: It cannot be used.
        """
        table = self._read_rows(entry, name)
        states = self._states(table)
        times_s, clock = self._times(table, entry)
        refuse_unusable(name, states, times_s)
        return Episode(
            name=name,
            states=states,
            times_s=times_s,
            cameras={
                view: self._camera(column, entry) for view, column in self._keys.cameras.items()
            },
            clock=clock,
            provenance=Provenance(
                f"lerobot_{self.version}", f"{self.root}#{entry.index}", entry.provenance
            ),
            task=entry.task,
            success=_success(table, entry),
            extrinsics={
                view: table[column].astype(np.float64)
                for view, column in self._keys.extrinsics.items()
                if table[column].any()
            },
            signals=self._signals(table),
            warnings=anomalies(states, times_s, clock),
        )

    def _read_rows(self, entry: Entry, name: str) -> dict[str, Array]:
        wanted = [
            c for c, kind in self._features.items() if kind not in ("video", "image", "string")
        ]
        table = read_rows(self.root / entry.data, wanted, entry.first_row, entry.length)
        owners = table.get("episode_index")
        if owners is not None and (owners != entry.index).any():
            detail = f"rows of episode {owners[owners != entry.index][0]} in {entry.data}"
            raise BadEpisodeError(name, [Defect("wrong rows", detail)])
        keys = self._keys
        needed = (keys.gripper, keys.pose or str(keys.joints), *keys.extrinsics.values())
        missing = [column for column in needed if column not in table]
        if missing:  # a file may lack what the data set promises; that spoils its own episodes only
            detail = f"{entry.data} has no {', '.join(missing)}, which {INFO_FILE} promises"
            raise BadEpisodeError(name, [Defect("missing key", detail)])
        return table

    def _states(self, table: Mapping[str, Array]) -> NDArray[np.float64]:
        gripper = table[self._keys.gripper].reshape(-1, 1).astype(np.float64)
        if self._keys.pose is not None:
            pose = table[self._keys.pose].astype(np.float64)
        else:
            pose = flange_pose(table[str(self._keys.joints)].astype(np.float64))
        if pose.shape[1:] != (6,) or len(pose) != len(gripper):
            raise CorruptDataError(f"pose {pose.shape} and gripper {gripper.shape} make no states")
        return np.concatenate([pose, gripper], axis=1)

    def _times(self, table: Mapping[str, Array], entry: Entry) -> tuple[NDArray[np.float64], Clock]:
        if _CLOCK_COLUMN in table:
            stamps_ms = table[_CLOCK_COLUMN]
            return (stamps_ms - stamps_ms[0]).astype(np.float64) / 1000.0, "measured"
        nominal_s = np.arange(entry.length) / self.fps
        if "timestamp" not in table:
            return nominal_s, "nominal"
        times_s = table["timestamp"].astype(np.float64)
        times_s = times_s - times_s[0]
        is_nominal = bool(np.abs(times_s - nominal_s).max() < _CLOCK_SLACK_S)
        return (nominal_s, "nominal") if is_nominal else (times_s, "measured")

    def _camera(self, column: str, entry: Entry) -> CameraStream:
        if column in entry.videos:
            path, first_s = entry.videos[column]
            return VideoCamera(self.root / path, entry.length, first_s)
        return ImageCamera(_LazyImages(self.root / entry.data, column, entry), self.fps)

    def _signals(self, table: Mapping[str, Array]) -> dict[str, Array]:
        keys = self._keys
        used = {keys.pose, keys.gripper, *keys.extrinsics.values()}
        named = {column: signal_of(column) for column in table if column not in used}
        signals = {signal: table[column] for column, signal in named.items() if signal is not None}
        if keys.pose is None and keys.joints is not None:
            signals["observation/robot_state/joint_positions"] = table[keys.joints]
        return signals


def _success(table: Mapping[str, Array], entry: Entry) -> bool | None:
    """Our writer keeps `unknown` apart; LeRobot's column cannot."""
    if "success" in entry.provenance:
        success = entry.provenance["success"]
        return None if success is None else bool(success)
    return bool(table[OUTCOME_COLUMN][0]) if OUTCOME_COLUMN in table else None


class _LazyImages(Sequence[bytes]):
    """Images that lie in a Parquet column, read when the first of them is wanted."""

    def __init__(self, file: Location, column: str, entry: Entry) -> None:
        self._place = (file, column, entry.first_row, entry.length)
        self._images: list[bytes] | None = None

    def __len__(self) -> int:
        return self._place[3]

    def __getitem__(self, index: Any) -> Any:
        if self._images is None:
            file, column, first, length = self._place
            table = read_table(file, [column], first, length)
            rows = table.column(column).to_pylist() if column in table.column_names else [None]
            images: list[Any] = [row["bytes"] if isinstance(row, dict) else row for row in rows]
            if not all(isinstance(image, bytes) for image in images):
                raise CorruptDataError(f"{file} does not hold an image in every row of {column}")
            self._images = images
        return self._images[index]
