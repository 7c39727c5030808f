"""A planner server of our own, for one model, for the time of one replay."""

from __future__ import annotations

import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from robot_client.processes import Child
from robot_client.rest import RestClient

_START_TIMEOUT_S = 180.0


class CheckpointServer:
    """`uvicorn planner_server.app:app` on free ports; the environment's PLANNER_* settings hold, but for the model.

    Args:
        model: Folder or file of the world model.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._exit = ExitStack()
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start it and wait until it has made its first plan.

        Raises:
            RunError: It ended, or is not ready in time; with its last words.
        """
        environment = {
            "PLANNER_MODEL": str(self._model),
            "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
            "PLANNER_TOKEN": "",  # nobody else can reach it
        }
        arguments = ["-m", "uvicorn", "planner_server.app:app", "--port", str(self._port)]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="replay-")))
            server = Child(
                f"the planner server for {self._model}",
                arguments,
                folder / "server.log",
                environment,
            )
            stack.enter_context(server)
            ready = RestClient(self.url, timeout_s=2.0).is_ready
            server.wait_until(ready, _START_TIMEOUT_S)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
