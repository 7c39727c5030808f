"""An index of a data set: one row per episode in a Parquet file.

It is written in parts, so that a scan of a hundred thousand episodes that was interrupted goes on
where it stood, and never holds more than a part's findings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from trajectories.dataset import Dataset
from trajectories.errors import CorruptDataError
from trajectories.inspection import Finding
from trajectories.scan import Inspector, scan
from trajectories.storage import write_whole

PART_ROWS = 1000


def build_index(
    dataset: Dataset,
    inspector: Inspector,
    output: Path,
    workers: int,
    progress: Callable[[Finding | None], None],
) -> Path:
    """Inspect every episode and write the index; episodes that were indexed before are left out.

    Args:
        dataset: What to index.
        inspector: See `trajectories.inspection`.
        output: The Parquet file; appears when all is done.
        workers: Processes.
        progress: Called after each episode, and with None for each that was indexed before.
    """
    parts = output.with_name(output.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    known = _known_names(parts)
    for _ in known:
        progress(None)
    todo = (i for i in range(len(dataset)) if dataset.name(i) not in known)
    findings = _reported(scan(dataset, inspector, todo, workers), progress)
    number = len(list(parts.glob("part-*.parquet")))
    for rows in _batches(findings, PART_ROWS):
        _write(parts / f"part-{number:06d}.parquet", rows)
        number += 1
    _join(parts, output)
    shutil.rmtree(parts)
    return output


def row_of(finding: Finding) -> dict[str, Any]:
    """One row of the index."""
    return {
        "index": finding.index,
        "name": finding.name,
        "path": finding.location,
        "rows": finding.rows,
        "fps": finding.fps,
        "duration_s": finding.duration_s,
        "video_fps": finding.video_fps,
        "clock": finding.clock,
        "task": finding.task,
        "success": finding.success,
        "views": list(finding.views),
        "frames": list(finding.frames),
        "is_usable": finding.is_usable,
        "defects": [str(defect) for defect in finding.defects],
        "warnings": [str(defect) for defect in finding.warnings],
    }


def read_index(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Read an index, or some of its columns.

    Raises:
        CorruptDataError: It is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = _schema().names if columns is None else columns
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=wanted).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise CorruptDataError(f"{path} is no index that `index` wrote: {error}") from error
    return rows


def _schema() -> Any:
    import pyarrow as pa

    texts = pa.list_(pa.string())
    return pa.schema(
        [
            ("index", pa.int64()),
            ("name", pa.string()),
            ("path", pa.string()),
            ("rows", pa.int64()),
            ("fps", pa.float64()),
            ("duration_s", pa.float64()),
            ("video_fps", pa.float64()),
            ("clock", pa.string()),
            ("task", pa.string()),
            ("success", pa.bool_()),
            ("views", texts),
            ("frames", pa.list_(pa.int64())),
            ("is_usable", pa.bool_()),
            ("defects", texts),
            ("warnings", texts),
        ]
    )


def _reported(
    findings: Iterable[Finding], progress: Callable[[Finding | None], None]
) -> Iterator[Finding]:
    for finding in findings:
        progress(finding)
        yield finding


def _batches(findings: Iterable[Finding], size: int) -> Iterator[list[dict[str, Any]]]:
    rows = []
    try:
        for finding in findings:
            rows.append(row_of(finding))
            if len(rows) == size:
                yield rows
                rows = []
    except KeyboardInterrupt:
        if rows:
            yield rows  # what was found is kept
        raise
    if rows:
        yield rows


def _known_names(parts: Path) -> set[str]:
    known: set[str] = set()
    for part in parts.glob("part-*.parquet"):
        known.update(row["name"] for row in read_index(part, ["name"]))
    return known


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows, schema=_schema())
    write_whole(path, lambda draft: pq.write_table(table, draft))


def _join(parts: Path, output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(part) for part in sorted(parts.glob("part-*.parquet"))]
    table = pa.concat_tables(tables) if tables else pa.Table.from_pylist([], schema=_schema())
    write_whole(output, lambda draft: pq.write_table(table.sort_by("index"), draft))
