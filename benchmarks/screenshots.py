"""Pictures of every view of the operator's page, light and dark, on a desk and on a phone: `make screenshots`.

Starts a planner with the shipped model and two simulated robots at work, opens the page in a Chromium of this machine
and writes docs/images/page-VIEW-SCHEME-SIZE.webp. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser, Page
from rich.console import Console

from benchmarks.page_scene import PageServer, RobotRun, ServerAddress, browsing, find_browser
from robot_client.arms.sim import SimulatorOptions, SimulatorProcess
from robot_client.supervisor import Supervisor

OUT = Path("docs/images")
SCHEMES = ("light", "dark")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCENES = {"reach": 1, "grasp": 4}  # task and seed of each robot's cell
_QUALITY = 82
_SCALE = 1.5  # sharp enough for a screen of today, small enough for a repository
_WAIT_S = 120.0
_WORK_S = 14.0


@dataclass(frozen=True)
class View:
    """One picture: its name, its place (`{id}` stands for the session), and what is done before it is taken."""

    name: str
    place: str
    prepare: Callable[[Page], None]


def _nothing(page: Page) -> None:
    del page


def _imagine(page: Page) -> None:
    page.get_by_test_id("imagine-run").click()
    page.wait_for_function(
        "() => document.querySelector('[data-testid=imagine-heat-next]')?.dataset.sum"
    )


def _measure(page: Page) -> None:
    page.get_by_test_id("landscape-run").click()
    page.wait_for_function(
        "() => Number(document.querySelector('[data-testid=landscape-canvas]')?.dataset.points) > 0"
    )


VIEWS = (
    View("overview", "#/", _nothing),
    View("session", "#/session/{id}", _nothing),
    View("goals", "#/goals/{id}", _nothing),
    View("imagine", "#/imagine/{id}", _imagine),
    View("landscape", "#/landscape/{id}", _measure),
    View("history", "#/history", _nothing),
    View("past-session", "#/history/{past}", _nothing),
    View("episode", "#/episodes/{episode}", _nothing),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take all pictures; 0 when they are there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", type=Path, default=Path("models/shipped"))
    names = [view.name for view in VIEWS]
    parser.add_argument("--view", choices=names, action="append", help="this one only")
    options = parser.parse_args(arguments)
    console, executable = Console(), find_browser()
    if executable is None:
        console.print("no browser: apt-get install chromium")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, past, session = _at_work(stack, folder, options.model)
        with server.http() as http:
            (episode, *_) = http.get("/v1/episodes").json()["episodes"]
        ids = {"id": session, "past": past, "episode": episode["name"]}
        browser = stack.enter_context(browsing(executable))
        for view in VIEWS:
            if options.view is None or view.name in options.view:
                _picture(browser, server, view, view.place.format(**ids), options.out)
                console.print(f"{options.out}/page-{view.name}-*.webp")
    return 0


def _at_work(stack: ExitStack, folder: Path, model: Path) -> tuple[ServerAddress, str, str]:
    """Start everything; returns the server, a session that is over, and one that goes on."""
    process = PageServer(
        folder, model, PLANNER_DEADLINE_MS="600", PLANNER_MAX_STEP_M="0.06",
        PLANNER_EPISODES=str(folder / "reach" / "runs"),
    )  # fmt: skip
    server = stack.enter_context(process).wait()
    robots: dict[str, RobotRun] = {}
    for task, seed in SCENES.items():
        place = folder / task
        place.mkdir()
        simulator = SimulatorProcess(SimulatorOptions(task, seed, "far"), place)
        address = stack.enter_context(simulator).wait()
        with closing(Supervisor(address.supervisor)) as supervisor:
            (place / "goal.png").write_bytes(supervisor.goals()[0])
        robots[task] = RobotRun(place, server, place / "goal.png", address, task)
        if task == "reach":  # a run that is over, for the history
            with robots[task] as first:
                (past,) = _wait_for_plans(server, first)
                time.sleep(_WORK_S)
                with server.http() as http:
                    http.post("/v1/stop-all", json={"reason": "enough for today"})
                _until(lambda: first.is_over)
    for robot in robots.values():
        stack.enter_context(robot)
    first_session, *_ = _wait_for_plans(server, *robots.values())
    time.sleep(_WORK_S)
    return server, past, first_session


def _wait_for_plans(server: ServerAddress, *robots: RobotRun) -> list[str]:
    """Wait until every robot has its first plans; returns their sessions."""
    found: list[str] = []

    def are_planning() -> bool:
        for robot in robots:
            robot.check()
        with server.http() as http:
            sessions = http.get("/v1/sessions").json()["sessions"]
        found[:] = [each["id"] for each in sessions if each["plans"] > 1]
        return len(found) == len(robots)

    _until(are_planning)
    return found


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready after {_WAIT_S:.0f} s")
        time.sleep(0.2)


def _picture(browser: Browser, server: ServerAddress, view: View, place: str, out: Path) -> None:
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                device_scale_factor=_SCALE,
                color_scheme=scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto(f"{server.url}/{place}")
            page.wait_for_timeout(4000)  # some plans arrive; plots have something to show
            view.prepare(page)
            page.wait_for_timeout(500)
            whole = page.screenshot(full_page=size == "phone")
            _write(whole, out / f"page-{view.name}-{scheme}-{size}.webp")
            context.close()


def _write(png: bytes, path: Path) -> None:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])


if __name__ == "__main__":
    raise SystemExit(main())
