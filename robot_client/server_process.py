"""A planner server of this machine, started for one run and ended with it."""

import os
import re
import time
from pathlib import Path

from robot_client.processes import Child
from robot_client.rest import RestClient

_DEADLINE_MS = 750
_TIMEOUT_S = 120.0


class ServerProcess(Child):
    """`uvicorn planner_server.app:app` on ports that it finds free itself.

    Args:
        folder: For its log.
        model: Folder of the world model; None for the shipped one.
    """

    def __init__(self, folder: Path, model: Path | None = None) -> None:
        self._started = time.monotonic()
        environment = {
            "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
            # What the shell has set for a server in the lab is not meant for this one.
            "PLANNER_CONFIG": "",
            "PLANNER_TOKEN": "",
            # A search that would outlast the control period answers with the best it has by then.
            "PLANNER_DEADLINE_MS": str(_DEADLINE_MS),
            # One core stays free for the simulator's physics, which must keep up with time.
            "PLANNER_TORCH_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)),
        }
        if model is not None:
            environment["PLANNER_MODEL"] = str(model)
        arguments = ["-m", "uvicorn", "planner_server.app:app", "--port", "0"]
        super().__init__("the planner server", arguments, folder / "server.log", environment)

    def wait(self) -> str:
        """Wait until the model is loaded; returns the server's HTTP address.

        Raises:
            RunError: It ended, or is not ready in time.
        """
        self.wait_until(lambda: self._url() is not None, _TIMEOUT_S)
        url = self._url() or ""
        self.wait_until(RestClient(url, timeout_s=2.0).is_ready, _TIMEOUT_S)
        return url

    def waited_s(self) -> float:
        """Time since it was started [s]."""
        return time.monotonic() - self._started

    def _url(self) -> str | None:
        found = re.search(r"running on (http://[\d.]+:\d+)\s", self.output())
        return found[1] if found else None
