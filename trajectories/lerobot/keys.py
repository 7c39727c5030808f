"""Which column of a LeRobot data set is what; data sets differ in their names.

Two ports of DROID are known: lerobot's own (`observation.state.cartesian_position`, ...) and
openpi's (`exterior_image_1_left`, `joint_position`, ...; no pose, which then follows from the joint
angles). Others are told by a `KeyMap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trajectories.errors import UnknownFormatError

OUTCOME_COLUMN = "is_episode_successful"
EXTRINSICS_COLUMN = "camera_extrinsics."

STANDARD_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")

_STATE_PREFIX = "observation.state."
_STATE_PATH = "observation/robot_state/"
_OTHER_PREFIX = "recorded."


@dataclass(frozen=True)
class KeyMap:
    """Names of the columns that an episode is made of.

    Attributes:
        gripper: Closedness, 0 open .. 1 closed.
        cameras: Column of each view.
        pose: Flange pose, 6 numbers; or None and `joints` is given.
        joints: Seven joint angles [rad] of a Franka.
        extrinsics: Column of each view's camera pose, 6 numbers.
    """

    gripper: str
    cameras: Mapping[str, str]
    pose: str | None = None
    joints: str | None = None
    extrinsics: Mapping[str, str] = field(default_factory=dict)


LEROBOT_DROID = KeyMap(
    pose="observation.state.cartesian_position",
    joints="observation.state.joint_position",
    gripper="observation.state.gripper_position",
    cameras={
        "left": "observation.images.exterior_1_left",
        "right": "observation.images.exterior_2_left",
        "wrist": "observation.images.wrist_left",
    },
    extrinsics={
        "left": "camera_extrinsics.exterior_1_left",
        "right": "camera_extrinsics.exterior_2_left",
        "wrist": "camera_extrinsics.wrist_left",
    },
)

OPENPI_DROID = KeyMap(
    joints="joint_position",
    gripper="gripper_position",
    cameras={
        "left": "exterior_image_1_left",
        "right": "exterior_image_2_left",
        "wrist": "wrist_image_left",
    },
)

_IMAGE_PREFIX = "observation.images."


def choose_keys(features: Mapping[str, str], given: KeyMap | None, place: str) -> KeyMap:
    """Take the key map that fits a data set's columns.

    Args:
        features: Type of every column.
        given: What the caller says; taken as it is, but checked.
        place: The data set, for messages.

    Returns:
        A map of only what is there; cameras without a known name keep their own.

    Raises:
        UnknownFormatError: No pose, joint angles or gripper; lists the columns.
    """
    for keys in (LEROBOT_DROID, OPENPI_DROID) if given is None else (given,):
        has_pose = keys.pose in features or keys.joints in features
        if has_pose and keys.gripper in features:
            return _present(keys, features)
    raise UnknownFormatError(
        f"{place} has no columns that are known as flange pose (or joint angles) and gripper; "
        f"give a KeyMap for {', '.join(sorted(features))}"
    )


def _present(keys: KeyMap, features: Mapping[str, str]) -> KeyMap:
    cameras = {view: column for view, column in keys.cameras.items() if column in features}
    for column, kind in features.items():
        if kind in ("video", "image") and column not in cameras.values():
            cameras[column.removeprefix(_IMAGE_PREFIX)] = column
    return KeyMap(
        gripper=keys.gripper,
        cameras=cameras,
        pose=keys.pose if keys.pose in features else None,
        joints=keys.joints if keys.joints in features else None,
        extrinsics={view: c for view, c in keys.extrinsics.items() if c in features},
    )


def camera_column(view: str) -> str:
    """The column that a view is written to."""
    return LEROBOT_DROID.cameras.get(view, _IMAGE_PREFIX + view)


def extrinsics_column(view: str) -> str:
    """The column that a camera's pose is written to."""
    return LEROBOT_DROID.extrinsics.get(view, EXTRINSICS_COLUMN + view)


def column_of(signal: str) -> str:
    """The column of a recorded signal, as lerobot's port of DROID names it."""
    if signal == _STATE_PATH + "joint_positions":
        return _STATE_PREFIX + "joint_position"
    if signal.startswith(_STATE_PATH):
        return _STATE_PREFIX + signal.removeprefix(_STATE_PATH).replace("/", ".")
    if signal.startswith("action/"):
        return signal.replace("/", ".")
    return _OTHER_PREFIX + signal.replace("/", ".")


def signal_of(column: str) -> str | None:
    """The signal of a column; None for those that are no recorded signal."""
    if column == _STATE_PREFIX + "joint_position":
        return _STATE_PATH + "joint_positions"
    if column.startswith(_STATE_PREFIX):
        return _STATE_PATH + column.removeprefix(_STATE_PREFIX).replace(".", "/")
    if column.startswith("action."):
        return column.replace(".", "/")
    if column.startswith(_OTHER_PREFIX):
        return column.removeprefix(_OTHER_PREFIX).replace(".", "/")
    return None
