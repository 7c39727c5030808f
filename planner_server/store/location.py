"""Where the database is: a URL, a folder, or memory alone."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path
from typing import IO

from planner_server.errors import StartupError
from planner_server.settings import Settings
from planner_server.store.database import MEMORY_URL, sqlite_url

logger = logging.getLogger(__name__)

_FILE = "planner.db"


class Location:
    """A place for the database, held for as long as the server lives.

    Attributes:
        url: What `open_database` takes.
    """

    def __init__(self, settings: Settings) -> None:
        self._lock: IO[str] | None = None
        self.url = self._choose(settings)

    def release(self) -> None:
        """Let another server have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _choose(self, settings: Settings) -> str:
        if settings.database_url is not None:
            return settings.database_url.get_secret_value()
        if settings.data_dir is not None:
            return self._take(settings.data_dir.expanduser())
        if settings.zmq_endpoint.endswith((":*", ":0")):
            # Nobody can come back to a port that was drawn by lot.
            return MEMORY_URL
        folder = _default_folder(settings.zmq_endpoint)
        try:
            return self._take(folder)
        except StartupError as error:
            logger.warning("state is kept in memory and ends with this process: %s", error.message)
            return MEMORY_URL

    def _take(self, folder: Path) -> str:
        """Make the folder and hold it: two servers that share a file would surprise both."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StartupError(
                f"another server uses {folder}; give this one its own PLANNER_DATA_DIR"
            ) from error
        except OSError as error:
            raise StartupError(
                f"{folder} cannot be used for the database: {error.strerror}; set PLANNER_DATA_DIR"
            ) from error
        return sqlite_url(folder / _FILE)


def _default_folder(endpoint: str) -> Path:
    """Return the folder of the server at an endpoint, which no other server can have."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "vjepa-planner" / re.sub(r"[^A-Za-z0-9.]+", "-", endpoint)
