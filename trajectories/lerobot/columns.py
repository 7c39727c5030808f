"""The columns that an episode becomes in a LeRobot data set, named as in lerobot's port of DROID.

Poses and gripper stay float64, so that nothing is lost on the way there and back. The columns
`observation.state` and `action`, which policies of LeRobot expect, are made of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trajectories.droid_raw import CLOCK_KEY
from trajectories.episode import Array, Episode
from trajectories.errors import InvalidEpisodeError
from trajectories.lerobot.keys import (
    LEROBOT_DROID,
    OUTCOME_COLUMN,
    camera_column,
    column_of,
    extrinsics_column,
)
from trajectories.video_writer import Codec

_POSE_NAMES = ["x", "y", "z", "roll", "pitch", "yaw"]
_JOINT_NAMES = [f"joint_{i}" for i in range(7)]
_JOINTS = "observation/robot_state/joint_positions"


def columns_of(episode: Episode) -> dict[str, Array]:
    """All columns of an episode but the bookkeeping, `[T]` or `[T, k]` each.

    Raises:
        InvalidEpisodeError: A signal has more than two axes.
    """
    signals = {column_of(name): values for name, values in episode.signals.items()}
    for name, values in signals.items():
        if values.ndim > 2:
            raise InvalidEpisodeError(
                f"{name} of {episode.name} has shape {values.shape}; [T, k] fits"
            )
    flat = {name: v[:, 0] if v.shape[1:] == (1,) else v for name, v in signals.items()}
    columns: dict[str, Array] = {
        str(LEROBOT_DROID.pose): episode.states[:, :6],
        LEROBOT_DROID.gripper: episode.states[:, 6],
        **flat,
        **{extrinsics_column(view): pose for view, pose in episode.extrinsics.items()},
        OUTCOME_COLUMN: np.full(len(episode), bool(episode.success)),
        "observation.state": _policy_state(episode),
        "action": _policy_action(episode),
    }
    if episode.clock == "measured":
        columns.setdefault(column_of(CLOCK_KEY), 1000.0 * episode.times_s)
    return columns


def features_of(columns: Mapping[str, Array]) -> dict[str, Any]:
    """What `meta/info.json` says about columns."""
    return {
        name: {
            "dtype": str(values.dtype),
            "shape": [values.shape[1]] if values.ndim == 2 else [1],
            "names": _names(name, values.shape[1] if values.ndim == 2 else 1),
        }
        for name, values in columns.items()
    }


def camera_feature(frame_size: tuple[int, int], fps: float, codec: Codec) -> dict[str, Any]:
    """What `meta/info.json` says about a camera."""
    height, width = frame_size
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.codec": codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        },
    }


def cameras_of(episode: Episode) -> dict[str, str]:
    """View of every camera column."""
    return {camera_column(view): view for view in episode.cameras}


def _policy_state(episode: Episode) -> Array:
    """Joint angles and gripper where they were recorded, else pose and gripper; float32."""
    joints = episode.signals.get(_JOINTS)
    if joints is None:
        return episode.states.astype(np.float32)
    return np.concatenate([joints, episode.states[:, 6:]], axis=1).astype(np.float32)


def _policy_action(episode: Episode) -> Array:
    """The command in the same terms, where one was recorded; else the next measured state."""
    gripper = episode.signals.get("action/gripper_position")
    name = "joint_position" if _JOINTS in episode.signals else "cartesian_position"
    command = episode.signals.get(f"action/{name}")
    if gripper is None or command is None:
        state = _policy_state(episode)
        return np.concatenate([state[1:], state[-1:]])
    return np.concatenate([command, gripper.reshape(-1, 1)], axis=1).astype(np.float32)


def _names(column: str, width: int) -> list[str] | None:
    if column in ("observation.state", "action"):
        return [*(_JOINT_NAMES if width == 8 else _POSE_NAMES), "gripper"]
    if width == 7:
        return _JOINT_NAMES
    if width == 6:
        return _POSE_NAMES
    return None
