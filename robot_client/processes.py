"""Programs that a demo starts and ends: each by its own process id, whatever happens."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from robot_client.errors import RunError

logger = logging.getLogger(__name__)

_END_TIMEOUT_S = 5.0
_LOG_LINES_SHOWN = 12
_INSTALL = "Server and simulator beside the client: pip install 'vjepa-planner[client,server,sim]'"


class Child:
    """One program, its output in a log file.

    Args:
        name: For messages.
        arguments: After the Python interpreter, e.g. ["-m", "uvicorn", ...].
        log: File for its output.
        environment: Added to this process's own.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self._name = name
        self._arguments = [sys.executable, *arguments]
        self._log = log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            # A session of its own: Ctrl+C in the terminal reaches this process alone, which stops
            # the arm first and ends its children afterwards.
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            logger.warning("%s does not end; killing process %d", self._name, process.pid)
            process.kill()
            process.wait()

    def output(self) -> str:
        """Everything it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def check(self) -> None:
        """Raise `RunError` with its last words when it has ended."""
        if self._process is None or (status := self._process.poll()) is None:
            return
        raise RunError(f"{self._name} ended with status {status}; {self._last_words()}")

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_ready()`; raise `RunError` when the program ends or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                words = self._last_words()
                raise RunError(f"{self._name} is not ready after {timeout_s:.0f} s; {words}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        lines = self.output().strip().splitlines()[-_LOG_LINES_SHOWN:]
        words = f"its last words ({self._log}):\n  " + ("\n  ".join(lines) or "(none)")
        return f"{words}\n{_INSTALL}" if lines and "No module named" in lines[-1] else words
