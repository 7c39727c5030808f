"""A file of JSON lines that is whole at every moment, also on a disk that is full."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """Append JSON objects, one a line; each is handed to the operating system at once.

    Args:
        path: The file; made when it is missing.
        is_new: Begin with an empty file; else an existing one goes on.
    """

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        self._file = path.open("wb" if is_new else "ab", buffering=0)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def add(self, values: Mapping[str, Any]) -> None:
        """Append one object.

        Raises:
            OSError: It cannot be written, for example to a full disk; then nothing of it is kept, and
                the next one may be tried.
        """
        line = (json.dumps(values) + "\n").encode()
        begin = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError:
            self._file.truncate(begin)  # needs no room, and half a line would spoil the next one
            raise

    def sync(self) -> None:
        """Have the operating system put on disk what was written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; harmless when closed."""
        self._file.close()
