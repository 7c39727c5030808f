"""The published files of a LeRobot v3.0 data set that is written here.

One merge makes one data file, one video file per camera and one file of `meta/episodes`, all of the
same number. `meta/info.json` is replaced after them: files that it does not count are none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from trajectories.episode import Array
from trajectories.errors import InvalidEpisodeError
from trajectories.lerobot.index import (
    EPISODES_FOLDER,
    INFO_FILE,
    PROVENANCE_COLUMN,
    parquet_files,
    read_info,
)
from trajectories.lerobot.stage import Staged, as_arrays, as_lists
from trajectories.lerobot.stats import Stats, joined_stats, stats_of_rows
from trajectories.lerobot.tasks import number_tasks
from trajectories.storage import locate, sync, write_whole
from trajectories.video_writer import Piece, join

DATA_MB, VIDEO_MB = 100, 200
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")

_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES_PATH = EPISODES_FOLDER + "/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_STATS_FILE = "meta/stats.json"
_CHUNK_FILES = 1000
_SOURCE = "source"


class LeRobotFiles:
    """Adds staged episodes to the files of a data set.

    Attributes:
        info: Content of `meta/info.json`.
    """

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self._root = root
        self.info = info

    @classmethod
    def open(cls, root: Path, fps: float, robot_type: str) -> Self:
        """Open what is there, without what is not counted; or begin a data set.

        Raises:
            InvalidEpisodeError: What is there has another rate or another writer's layout.
            CorruptDataError: What is there is damaged.
        """
        if not (root / INFO_FILE).is_file():
            return cls(root, _first_info(fps, robot_type))
        files = cls(root, read_info(locate(root)))
        info = files.info
        paths = (info["codebase_version"], info["data_path"], info.get("video_path"))
        if paths != ("v3.0", _DATA_PATH, _VIDEO_PATH):
            raise InvalidEpisodeError(f"{root} is no v3.0 data set of this layout; write elsewhere")
        if info["fps"] != fps:
            raise InvalidEpisodeError(f"{root} has {info['fps']} rows/s, not {fps}; resample first")
        files._drop_uncounted()
        files._mend_stats()
        return files

    def sources(self) -> set[str]:
        """Sources of all episodes; those of other writers have none."""
        kept = [json.loads(text or "{}") for text in self._episodes(PROVENANCE_COLUMN)]
        return {str(provenance[_SOURCE]) for provenance in kept if _SOURCE in provenance}

    def merge(self, staged: Sequence[Staged]) -> None:
        """Add episodes; they are part of the data set when this returns."""
        number = len(parquet_files(locate(self._root / EPISODES_FOLDER)))
        place = {"chunk_index": number // _CHUNK_FILES, "file_index": number % _CHUNK_FILES}
        tasks = number_tasks(self._root, [episode.task for episode in staged])
        stats = self._write_data(self._root / _DATA_PATH.format(**place), staged, tasks)
        for column in self._videos():
            path = self._root / _VIDEO_PATH.format(video_key=column, **place)
            path.parent.mkdir(parents=True, exist_ok=True)
            join([Piece(s.video(column), s.length) for s in staged], path, self.info["fps"])
            sync(path)
        self._write_episodes(place, staged, stats)
        info = self.info
        info["total_episodes"] += len(staged)
        info["total_frames"] += sum(episode.length for episode in staged)
        info["total_tasks"] = len(tasks)
        info["splits"] = {"train": f"0:{info['total_episodes']}"}
        write_json(self._root / INFO_FILE, info)  # from here on they are part of it
        self._write_stats(stats)

    def _videos(self) -> list[str]:
        features: dict[str, Any] = self.info["features"]
        return [column for column, feature in features.items() if feature["dtype"] == "video"]

    def _write_data(
        self, path: Path, staged: Sequence[Staged], tasks: Mapping[str, int]
    ) -> list[dict[str, Stats]]:
        """Write the rows, a row group per episode; returns the statistics of every episode."""
        import pyarrow.parquet as pq

        stats = []

        def write(draft: Path) -> None:
            writer = None
            index, first = self.info["total_episodes"], self.info["total_frames"]
            for episode in staged:
                books = self._books(index, first, episode.length, tasks[episode.task])
                table = _arrow_table({**episode.columns(), **books})
                writer = writer or pq.ParquetWriter(draft, table.schema)
                writer.write_table(table)
                counted = {name: stats_of_rows(values) for name, values in books.items()}
                stats.append({**episode.stats, **counted})
                index, first = index + 1, first + episode.length
            if writer is not None:
                writer.close()

        write_whole(path, write)
        return stats

    def _books(self, index: int, first: int, length: int, task: int) -> dict[str, Array]:
        rows = np.arange(length, dtype=np.int64)
        return {
            "timestamp": (rows / self.info["fps"]).astype(np.float32),
            "frame_index": rows,
            "episode_index": np.full(length, index, np.int64),
            "index": first + rows,
            "task_index": np.full(length, task, np.int64),
        }

    def _write_episodes(
        self, place: Mapping[str, int], staged: Sequence[Staged], stats: Sequence[dict[str, Stats]]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows, in_file, first = [], 0, int(self.info["total_frames"])
        for number, (episode, described) in enumerate(zip(staged, stats, strict=True)):
            row: dict[str, Any] = {
                "episode_index": self.info["total_episodes"] + number,
                "tasks": [episode.task],
                "length": episode.length,
                "data/chunk_index": place["chunk_index"],
                "data/file_index": place["file_index"],
                "dataset_from_index": first + in_file,
                "dataset_to_index": first + in_file + episode.length,
            }
            for column in self._videos():
                row |= {
                    f"videos/{column}/chunk_index": place["chunk_index"],
                    f"videos/{column}/file_index": place["file_index"],
                    f"videos/{column}/from_timestamp": in_file / self.info["fps"],
                    f"videos/{column}/to_timestamp": (in_file + episode.length) / self.info["fps"],
                }
            for column, values in described.items():
                row |= {f"stats/{column}/{k}": v for k, v in as_lists(values).items()}
            row |= {
                "meta/episodes/chunk_index": place["chunk_index"],
                "meta/episodes/file_index": place["file_index"],
                PROVENANCE_COLUMN: json.dumps({**episode.provenance, _SOURCE: episode.source}),
            }
            rows.append(row)
            in_file += episode.length
        table = pa.Table.from_pylist(rows)
        path = self._root / _EPISODES_PATH.format(**place)
        write_whole(path, lambda draft: pq.write_table(table, draft))

    def _write_stats(self, episodes: Sequence[Mapping[str, Stats]]) -> None:
        path = self._root / _STATS_FILE
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        parts = (
            [*episodes]
            if known is None
            else [{c: as_arrays(s) for c, s in known.items()}, *episodes]
        )
        joined = {c: joined_stats([part[c] for part in parts]) for c in parts[-1]}
        write_json(path, {column: as_lists(stats) for column, stats in joined.items()})

    def _mend_stats(self) -> None:
        """Join the episodes' statistics again if a crash kept the last ones out."""
        path = self._root / _STATS_FILE
        try:
            counted = json.loads(path.read_text(encoding="utf-8"))["index"]["count"][0]
        except (OSError, ValueError, KeyError, IndexError):
            counted = -1
        if counted == self.info["total_frames"]:
            return
        path.unlink(missing_ok=True)
        for file in parquet_files(locate(self._root / EPISODES_FOLDER)):
            import pyarrow.parquet as pq

            self._write_stats([_stats_of_row(row) for row in pq.read_table(file.path).to_pylist()])

    def _drop_uncounted(self) -> None:
        """Remove files of `meta/episodes` that a crash kept from being counted."""
        import pyarrow.parquet as pq

        for file in parquet_files(locate(self._root / EPISODES_FOLDER)):
            first = pq.read_table(file.path, columns=["episode_index"]).column(0)[0].as_py()
            if first >= self.info["total_episodes"]:
                Path(file.path).unlink()

    def _episodes(self, column: str) -> list[Any]:
        import pyarrow.parquet as pq

        found: list[Any] = []
        for file in parquet_files(locate(self._root / EPISODES_FOLDER)):
            content = pq.ParquetFile(file.path)
            if column in content.schema_arrow.names:
                found += content.read(columns=[column]).column(0).to_pylist()
        return found


def bookkeeping_features() -> dict[str, Any]:
    """What `meta/info.json` says about the columns that every data set has."""
    kinds = dict.fromkeys(BOOKKEEPING, "int64") | {"timestamp": "float32"}
    return {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in kinds.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _first_info(fps: float, robot_type: str) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": _CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {},
        "data_path": _DATA_PATH,
        "video_path": _VIDEO_PATH,
        "features": {},
    }


def _arrow_table(columns: Mapping[str, Array]) -> Any:
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        width = values.shape[1] if values.ndim == 2 else 0
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, width) if width else flat
    return pa.table(arrays)


def _stats_of_row(row: Mapping[str, Any]) -> dict[str, Stats]:
    stats: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        if name.startswith("stats/"):
            column, _, kind = name.removeprefix("stats/").rpartition("/")
            stats.setdefault(column, {})[kind] = value
    return {column: as_arrays(described) for column, described in stats.items()}
