"""`uvicorn planner_server.app:app` as a process of its own, on free ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from typing_extensions import Self

_START_TIMEOUT_S = 120.0
_STATUS = "/proc/{pid}/status"


class ServerProcess:
    """A server for a benchmark; its log goes to a temporary file.

    Args:
        model: What it serves.
        variables: Further settings, as environment variables.
    """

    def __init__(self, model: Path, **variables: str) -> None:
        self._model = model
        self._variables = variables
        self.url = ""
        self.zmq = ""

    def __enter__(self) -> Self:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("PLANNER_")
        }
        settings = {
            "PLANNER_MODEL": str(self._model),
            "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
            "PLANNER_LOG_LEVEL": "WARNING",
            "PLANNER_REQUESTS_PER_S": "100000",
            "PLANNER_MESSAGES_PER_S": "100000",
        }
        self._log = tempfile.NamedTemporaryFile("r", suffix=".log")
        command = [sys.executable, "-m", "uvicorn", "planner_server.app:app", "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--no-access-log"],
            env={**kept, **settings, **self._variables},
            stderr=Path(self._log.name).open("w"),
        )
        self.url = self._wait()
        self.zmq = httpx.get(f"{self.url}/v1/model").json()["zmq_endpoint"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()

    def memory_mib(self) -> float:
        """Return the resident memory of the process [MiB]."""
        status = Path(_STATUS.format(pid=self._process.pid)).read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def _wait(self) -> str:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            found = re.search(r"running on (http://\S+)", Path(self._log.name).read_text())
            if found is not None and httpx.get(f"{found[1]}/readyz").status_code == 200:
                return found[1]
            time.sleep(0.05)
        raise RuntimeError("the server did not start:\n" + Path(self._log.name).read_text())
