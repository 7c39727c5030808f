"""The task texts of a LeRobot data set and their numbers, `meta/tasks.parquet`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trajectories.storage import write_whole

_FILE = "meta/tasks.parquet"
# pandas, which LeRobot reads the tasks with, keeps the index in a column and says so in JSON.
_TASK_COLUMN = "__index_level_0__"
_PANDAS = {
    "index_columns": [_TASK_COLUMN],
    "column_indexes": [],
    "columns": [
        {
            "name": name,
            "field_name": name or _TASK_COLUMN,
            "pandas_type": kind,
            "numpy_type": numpy_kind,
            "metadata": None,
        }
        for name, kind, numpy_kind in (
            ("task_index", "int64", "int64"),
            (None, "unicode", "object"),
        )
    ],
    "pandas_version": "2.0.0",
}


def number_tasks(root: Path, texts: Sequence[str]) -> dict[str, int]:
    """Give new texts numbers, known ones keep theirs, and write them all.

    Returns:
        The number of every text of the data set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / _FILE
    known = pq.read_table(path).to_pydict() if path.is_file() else {}
    tasks = dict(zip(known.get(_TASK_COLUMN, []), known.get("task_index", []), strict=True))
    for text in texts:
        tasks.setdefault(text, len(tasks))
    numbers = pa.array(list(tasks.values()), pa.int64())
    table = pa.table({"task_index": numbers, _TASK_COLUMN: list(tasks)})
    table = table.replace_schema_metadata({"pandas": json.dumps(_PANDAS)})
    write_whole(path, lambda draft: pq.write_table(table, draft))
    return tasks
