"""Read few rows of Parquet files, from wherever they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from trajectories.episode import Array
from trajectories.errors import CorruptDataError
from trajectories.storage import Location


def read_rows(file: Location, columns: list[str], first: int, count: int) -> dict[str, Array]:
    """Read rows `first` .. `first + count - 1` of numeric columns; `[T]` or `[T, k]` each.

    Raises:
        CorruptDataError: The file is missing or damaged, or ends before.
    """
    table = read_table(file, columns, first, count)
    return {name: _as_array(table.column(name), name, file) for name in table.column_names}


def read_table(file: Location, columns: list[str], first: int, count: int) -> Any:
    """Read only the row groups that hold the rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = file.av_source()
    try:
        with pq.ParquetFile(source) as content:
            sizes = [content.metadata.row_group(i).num_rows for i in range(content.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
            groups = [
                i
                for i, n in enumerate(sizes)
                if starts[i] < first + count and starts[i] + n > first
            ]
            present = [name for name in columns if name in content.schema_arrow.names]
            if not groups or starts[-1] < first + count:
                raise CorruptDataError(f"{file} has {starts[-1]} rows; {first + count} are needed")
            table = content.read_row_groups(groups, columns=present)
    except (OSError, pa.ArrowException) as error:
        raise CorruptDataError(f"{file} cannot be read: {error}") from error
    finally:
        if not isinstance(source, str):
            source.close()
    return table.slice(first - int(starts[groups[0]]), count).combine_chunks()


def _as_array(column: Any, name: str, file: Location) -> Array:
    import pyarrow as pa

    if column.null_count:
        raise CorruptDataError(f"{column.null_count} empty cells in column {name} of {file}")
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        try:
            return np.array(column.to_pylist())
        except ValueError as error:
            raise CorruptDataError(f"rows of column {name} of {file} differ in length") from error
    values: Array = column.to_numpy()
    return values
