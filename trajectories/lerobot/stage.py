"""The stage of a LeRobot data set under construction: whole episodes, one folder each.

    .staged/<number>/rows.npz, <camera column>.mp4, episode.json

A folder gets its number, instead of `*.partial`, when all of it is on disk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trajectories.episode import Array, Episode
from trajectories.errors import CorruptDataError
from trajectories.lerobot.columns import cameras_of
from trajectories.lerobot.stats import Stats, stats_of_camera, stats_of_rows
from trajectories.storage import publish_folder
from trajectories.video_writer import Codec, VideoWriter

STAGE_FOLDER = ".staged"
_ROWS, _DESCRIPTION = "rows.npz", "episode.json"


@dataclass(frozen=True)
class Staged:
    """One staged episode.

    Attributes:
        folder: Where it lies.
        length: Rows.
        task: In words.
        source: See `source_of`.
        provenance: To be kept with it.
        features: What `meta/info.json` has to say about its columns.
        stats: By column.
    """

    folder: Path
    length: int
    task: str
    source: str
    provenance: dict[str, Any]
    features: dict[str, Any]
    stats: dict[str, Stats]

    def columns(self) -> dict[str, Array]:
        """All columns but the bookkeeping."""
        with np.load(self.folder / _ROWS, allow_pickle=False) as rows:
            return dict(rows)

    def video(self, column: str) -> Path:
        """The video of a camera column."""
        return self.folder / f"{column}.mp4"


def source_of(episode: Episode) -> str:
    """What tells an episode from all others, wherever it lies: its format and its name there."""
    known = episode.provenance.attributes.get("uuid")
    return f"{episode.provenance.format}:{known or episode.name}"


def write_staged(
    folder: Path,
    episode: Episode,
    columns: Mapping[str, Array],
    features: Mapping[str, Any],
    fps: float,
    codec: Codec,
) -> Staged:
    """Stage an episode: encode its cameras, keep its columns, describe it."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    stats = {name: stats_of_rows(values) for name, values in columns.items()}
    for column, view in cameras_of(episode).items():
        stream = episode.camera(view)
        writer = VideoWriter(partial / f"{column}.mp4", stream.frame_size, fps, codec)
        for frame in stream.frames():
            writer.write(frame)
        writer.close()
        stats[column] = stats_of_camera(stream)
    with (partial / _ROWS).open("wb") as file:
        np.savez(file, **dict(columns))  # type: ignore[arg-type]
    description = {
        "length": len(episode),
        "task": episode.task,
        "source": source_of(episode),
        "provenance": {**episode.provenance.attributes, "success": episode.success},
        "features": dict(features),
        "stats": {name: as_lists(described) for name, described in stats.items()},
    }
    (partial / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    publish_folder(partial, folder)
    return read_staged(folder)


def read_staged(folder: Path) -> Staged:
    """Open a staged episode.

    Raises:
        CorruptDataError: It is damaged.
    """
    try:
        content = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        stats = {name: as_arrays(described) for name, described in content.pop("stats").items()}
        return Staged(folder=folder, stats=stats, **content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(f"{folder} is damaged ({error!r}); remove it") from error


def as_lists(stats: Stats) -> dict[str, Any]:
    """Statistics as JSON."""
    return {name: values.tolist() for name, values in stats.items()}


def as_arrays(stats: Mapping[str, Any]) -> Stats:
    """Statistics from JSON."""
    return {name: np.array(values, dtype=np.float64) for name, values in stats.items()}
