"""What the operator's page is shown with: a real server, a simulated Franka, robots at work, a browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from playwright.sync_api import Browser, sync_playwright

from robot_client.arms.sim import SimulatorAddress
from robot_client.processes import Child

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_START_TIMEOUT_S = 120.0


def find_browser() -> str | None:
    """Return the path of a Chromium of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def browsing(executable: str) -> Iterator[Browser]:
    """Run a browser without windows."""
    # A sandbox of its own is refused to root, as in containers; nothing but our own page is opened.
    switches = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=switches)
        try:
            yield browser
        finally:
            browser.close()


class PageServer(Child):
    """`uvicorn planner_server.app:app` on free ports, configured by environment variables alone.

    Args:
        folder: For its log.
        model: Folder of the world model.
        variables: Settings, e.g. `PLANNER_TOKEN`.
    """

    def __init__(self, folder: Path, model: Path, **variables: str) -> None:
        settings = {
            "PLANNER_MODEL": str(model),
            "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
            "PLANNER_TORCH_THREADS": "1",
        }
        arguments = ["-m", "uvicorn", "planner_server.app:app", "--port", "0", "--no-access-log"]
        # What the shell has set for a server in the lab is not meant for this one.
        foreign = {name: "" for name in ("PLANNER_CONFIG", "PLANNER_TOKEN") if name in os.environ}
        environment = {**foreign, **settings, **variables}
        super().__init__("the planner server", arguments, folder / "server.log", environment)
        self.token = variables.get("PLANNER_TOKEN")

    def wait(self) -> ServerAddress:
        """Wait until it is ready; returns where it listens."""
        self.wait_until(lambda: self._url() is not None, _START_TIMEOUT_S)
        url = self._url() or ""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.wait_until(
            lambda: httpx.get(f"{url}/readyz").status_code == httpx.codes.OK, _START_TIMEOUT_S
        )
        card = httpx.get(f"{url}/v1/model", headers=headers).raise_for_status().json()
        return ServerAddress(url, card["zmq_endpoint"], headers)

    def _url(self) -> str | None:
        found = re.search(r"running on (http://[\d.]+:\d+)\s", self.output())
        return found[1] if found else None


@dataclass(frozen=True)
class ServerAddress:
    """Where a server listens, and the headers that let one in."""

    url: str
    zmq: str
    headers: dict[str, str]

    def http(self) -> httpx.Client:
        """Open a client."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=30.0)


class RobotRun(Child):
    """`robot-client run` with an endless task.

    Args:
        folder: For its log, its task file and its recording.
        server: Whom it asks.
        goal: PNG or JPEG file of its goal.
        simulator: Its arm and camera; None: an arm without a body before a test card.
        name: Of its task.
    """

    def __init__(
        self,
        folder: Path,
        server: ServerAddress,
        goal: Path,
        simulator: SimulatorAddress | None = None,
        name: str = "endless",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        task = folder / f"{name}.yaml"
        task.write_text(yaml.safe_dump(_endless(name)))
        arguments = ["-m", "robot_client", "run", "--task", str(task), "--goal", str(goal)]
        arguments += ["--server", server.zmq, "--http", server.url, "--unattended"]
        arguments += ["--runs", str(folder / "runs")]
        if simulator is None:
            arguments += ["--arm", "dummy"]
        else:
            arguments += ["--arm", "sim", "--host", simulator.robot, "--camera", simulator.camera]
            arguments += ["--supervisor", simulator.supervisor]
        token = server.headers.get("Authorization", "").removeprefix("Bearer ")
        arguments += ["--token", token] if token else []
        super().__init__(f"the robot of {name}", arguments, folder / f"{name}.log", {})

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process is not None and self._process.poll() is not None


def _endless(name: str) -> dict[str, object]:
    """Return a reach that goes on until somebody stops it."""
    safety = {
        "workspace_low_m": [0.33, -0.32, 0.12],
        "workspace_high_m": [0.67, 0.32, 0.55],
        "max_step_m": 0.15,
        "max_rotation_rad": 0.2,
        "min_fingertip_z_m": 0.005,
        "max_observation_age_s": 30.0,
        "max_energy_rises": None,
    }
    return {
        "name": name,
        "description": "Bring the hand to where the goal image shows it, and stay there.",
        "sub_goals": [{"name": "reach", "max_steps": 500}],
        "settled_step_m": 0.0,
        "stop_after_missed": 60,
        "safety": safety,
    }
