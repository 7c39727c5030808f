"""Where each episode of a LeRobot data set lies, from its `meta/` folder.

A hundred thousand episodes stay a compact table; an `Entry` is made of a row when it is asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trajectories.errors import CorruptDataError, UnknownFormatError
from trajectories.storage import Location

VERSIONS = ("v2.0", "v2.1", "v3.0")
INFO_FILE = "meta/info.json"
EPISODES_FOLDER = "meta/episodes"
PROVENANCE_COLUMN = "provenance"
"""Column of `meta/episodes` in which our writer keeps an episode's origin, as JSON."""


@dataclass(frozen=True)
class Entry:
    """Where one episode lies.

    Attributes:
        index: `episode_index`.
        length: Rows.
        task: In words.
        data: Parquet file, from the root.
        first_row: Its first row in that file.
        videos: Video file and time of its first frame [s] (None: the file is its own), by column.
        provenance: What our own writer kept about the origin; empty otherwise.
    """

    index: int
    length: int
    task: str
    data: str
    first_row: int
    videos: Mapping[str, tuple[str, float | None]]
    provenance: Mapping[str, Any]


class EpisodeIndex(ABC):
    """All entries of a data set, by position."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self._videos = [c for c, feature in info["features"].items() if feature["dtype"] == "video"]

    @abstractmethod
    def __len__(self) -> int:
        """How many episodes there are."""

    def entry(self, position: int) -> Entry:
        """Where an episode lies.

        Raises:
            CorruptDataError: The meta data does not say it.
        """
        try:
            return self._entry(position)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CorruptDataError(f"the meta data of episode {position}: {error!r}") from error

    @abstractmethod
    def _entry(self, position: int) -> Entry:
        """Make the entry of a valid position."""


def read_info(root: Location) -> dict[str, Any]:
    """Read `meta/info.json`.

    Raises:
        UnknownFormatError: It is of a version that is not known.
        CorruptDataError: It is damaged or incomplete.
    """
    file = root / INFO_FILE
    try:
        info = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptDataError(f"{file} cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise CorruptDataError(f"{file} is no JSON object")
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise UnknownFormatError(
            f"{root} is a LeRobot data set of version {version!r}; {', '.join(VERSIONS)} can be "
            "read (lerobot's own scripts convert older ones)"
        )
    _check_info(info, file)
    return info


def _check_info(info: Mapping[str, Any], file: Location) -> None:
    missing = {"fps", "features", "data_path"} - info.keys()
    if missing:
        raise CorruptDataError(f"{file} lacks {', '.join(sorted(missing))}")
    features, fps = info["features"], info["fps"]
    if not (
        isinstance(features, dict)
        and all(isinstance(feature, dict) and "dtype" in feature for feature in features.values())
    ):
        raise CorruptDataError(f"{file} lists no features with a dtype each")
    if not (isinstance(fps, int | float) and fps > 0):
        raise CorruptDataError(f"{file} has fps {fps!r}; expected rows per second")


def read_index(root: Location, info: Mapping[str, Any]) -> EpisodeIndex:
    """Read which episodes there are.

    Raises:
        CorruptDataError: The meta data is damaged or incomplete.
    """
    try:
        return (_IndexV3 if info["codebase_version"] == "v3.0" else _IndexV2)(root, info)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptDataError(f"the meta data of {root} is damaged: {error!r}") from error


class _IndexV2(EpisodeIndex):
    """One line of `episodes.jsonl` and one file per episode."""

    def __init__(self, root: Location, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        file = root / "meta/episodes.jsonl"
        try:
            text = file.read_bytes().decode()
        except OSError as error:
            raise CorruptDataError(f"{file} cannot be read: {error}") from error
        self._lines = [json.loads(line) for line in text.splitlines() if line.strip()]

    def __len__(self) -> int:
        return len(self._lines)

    def _entry(self, position: int) -> Entry:
        line, info = self._lines[position], self._info
        index = int(line["episode_index"])
        place = {"episode_index": index, "episode_chunk": index // int(info["chunks_size"])}
        return Entry(
            index=index,
            length=int(line["length"]),
            task=" ".join(line.get("tasks", [])[:1]),
            data=info["data_path"].format(**place),
            first_row=0,
            videos={
                c: (info["video_path"].format(**place, video_key=c), None) for c in self._videos
            },
            provenance={},
        )


class _IndexV3(EpisodeIndex):
    """Rows of `meta/episodes`; an episode is a span of rows and a span of time."""

    def __init__(self, root: Location, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        self._table = _read_episodes(root)
        self._total = min(int(info.get("total_episodes", len(self._table))), len(self._table))
        self._first_index: dict[tuple[int, int], int] = {}
        names = ("data/chunk_index", "data/file_index", "dataset_from_index")
        columns = [self._table.column(name).to_pylist() for name in names]
        for chunk, number, first in zip(*columns, strict=True):
            known = self._first_index.get((chunk, number), first)
            self._first_index[chunk, number] = min(known, first)

    def __len__(self) -> int:
        return self._total

    def _entry(self, position: int) -> Entry:
        row = self._table.slice(position, 1).to_pylist()[0]
        chunk, number = row["data/chunk_index"], row["data/file_index"]
        return Entry(
            index=int(row["episode_index"]),
            length=int(row["length"]),
            task=" ".join((row.get("tasks") or [])[:1]),
            data=self._info["data_path"].format(chunk_index=chunk, file_index=number),
            first_row=int(row["dataset_from_index"]) - self._first_index[chunk, number],
            videos={column: self._video(row, column) for column in self._videos},
            provenance=json.loads(row.get(PROVENANCE_COLUMN) or "{}"),
        )

    def _video(self, row: Mapping[str, Any], column: str) -> tuple[str, float]:
        path: str = self._info["video_path"].format(
            video_key=column,
            chunk_index=row[f"videos/{column}/chunk_index"],
            file_index=row[f"videos/{column}/file_index"],
        )
        return path, float(row[f"videos/{column}/from_timestamp"])


def _read_episodes(root: Location) -> Any:
    """All of `meta/episodes`, without the statistics, which are most of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in parquet_files(root / EPISODES_FOLDER):
        source = file.av_source()
        try:
            with pq.ParquetFile(source) as content:
                names = [n for n in content.schema_arrow.names if not n.startswith("stats/")]
                tables.append(content.read(columns=names).replace_schema_metadata(None))
        except (OSError, pa.ArrowException) as error:
            raise CorruptDataError(f"{file} cannot be read: {error}") from error
        finally:
            if not isinstance(source, str):
                source.close()
    if not tables:
        raise CorruptDataError(f"no Parquet file in {root / EPISODES_FOLDER}")
    try:
        return pa.concat_tables(tables, promote_options="default").combine_chunks()
    except pa.ArrowException as error:
        raise CorruptDataError(f"the files of {root / EPISODES_FOLDER} differ: {error}") from error


def parquet_files(folder: Location) -> list[Location]:
    """The files `chunk-*/file-*.parquet` of a folder, in order."""
    if not folder.is_folder():
        return []
    chunks = [chunk for chunk, is_folder in folder.children() if is_folder]
    files = [file for chunk in chunks for file, _ in chunk.children()]
    return [file for file in files if file.name.endswith(".parquet")]
