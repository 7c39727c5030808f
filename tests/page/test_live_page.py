"""The operator's page over a real server and a simulated Franka: see, steer, stop, come back."""

import base64
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed; install .[dev]")

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from benchmarks.page_scene import PageServer, RobotRun, ServerAddress
from robot_client.arms.sim import SimulatorAddress, SimulatorOptions, SimulatorProcess
from robot_client.cameras.simulated import SimulatedCamera
from robot_client.codec import encode_image
from robot_client.supervisor import Supervisor
from tests.page.conftest import DESKTOP, WAIT_MS, Witness

Open = Callable[..., tuple[Page, Witness]]
PHONE = {"width": 390, "height": 844}
VIEWS = ("overview", "session", "goals", "imagine", "landscape", "history")
STILL_M = 0.002  # the simulated arm gives way by so much under its own weight
MOVING_M = 0.001  # in a twentieth of a second
THUMB_PX = 44
NUMBER = re.compile(r"^-?\d")

_DROP = """
async ([selector, base64, name]) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: "image/png" }));
    const target = document.querySelector(selector);
    for (const kind of ["dragenter", "dragover", "drop"])
        target.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
}
"""


class Cell:
    """A server, a simulated Franka, and a robot that works there until it is stopped.

    Args:
        folder: For logs and recordings.
        server: Where the planner listens.
        simulator: Where arm, camera and supervisor listen.
        supervisor: Knows goal images and the truth.
    """

    def __init__(
        self,
        folder: Path,
        server: ServerAddress,
        simulator: SimulatorAddress,
        supervisor: Supervisor,
    ) -> None:
        self.server, self.supervisor = server, supervisor
        self._folder, self._simulator = folder, simulator
        self._stack = ExitStack()
        self.goal = supervisor.goals()[0]
        self._goals = [self.goal, frame_of(simulator)]
        self.robot: RobotRun | None = None
        self.session = ""
        self.runs = 0

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def started(self, *, has_body: bool = True) -> Iterator[tuple[RobotRun, str]]:
        """A robot that has made its first plans, and its session."""
        self.runs += 1
        folder = self._folder / "episodes" / f"run-{self.runs}"
        folder.mkdir()
        # It begins with a goal that shows nothing of its world, so that it has no way to go.
        noise = np.random.default_rng(self.runs).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        (folder / "goal.png").write_bytes(encode_image(noise, "png").data)
        known, simulator = set(self.sessions()), self._simulator if has_body else None
        found: list[str] = []

        def is_planning() -> bool:
            robot.check()
            new = [s for s, info in self.sessions().items() if info["plans"] and s not in known]
            found[:] = new
            return bool(found)

        with RobotRun(
            folder, self.server, folder / "goal.png", simulator, f"task_{self.runs}"
        ) as robot:
            until(is_planning, 90.0)
            yield robot, found[0]

    def work(self) -> str:
        """Have a robot with a body at work; returns its session."""
        state = self.sessions().get(self.session, {}).get("state")
        if state == "paused":
            with self.server.http() as http:
                http.post(f"/v1/sessions/{self.session}/resume").raise_for_status()
        elif state != "running":
            until(lambda: self.robot is None or self.robot.is_over)
            self.robot, self.session = self._stack.enter_context(self.started())
        return self.session

    def send_away(self) -> None:
        """Give the robot a goal that it is not at already, and return while its arm is on the way."""
        kind = {"Content-Type": "image/png"}
        for _ in range(6):
            self._goals.reverse()
            with self.server.http() as http:
                path = f"/v1/sessions/{self.session}/goals"
                http.put(path, content=self._goals[0], headers=kind).raise_for_status()
            if self.is_moving_within(6.0):
                return
        raise AssertionError("the arm moves towards neither goal")

    def get(self, path: str) -> dict[str, Any]:
        """What the server answers."""
        with self.server.http() as http:
            return dict(http.get(path).raise_for_status().json())

    def sessions(self) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in self.get("/v1/sessions")["sessions"]}

    def position_m(self) -> np.ndarray:
        """Where the simulated flange is, read from the physics."""
        return np.array(self.supervisor.ask("truth")["state"][:3])

    def is_moving_within(self, time_s: float) -> bool:
        """Whether the arm is seen on its way; comes back while it is."""
        end, before = time.monotonic() + time_s, self.position_m()
        while time.monotonic() < end:
            time.sleep(0.05)
            now = self.position_m()
            if float(np.linalg.norm(now - before)) > MOVING_M:
                return True
            before = now
        return False

    def drift_m(self, time_s: float) -> float:
        """How far the arm strays from where it is now within a time."""
        start, end, drift_m = self.position_m(), time.monotonic() + time_s, 0.0
        while time.monotonic() < end:
            drift_m = max(drift_m, float(np.linalg.norm(self.position_m() - start)))
            time.sleep(0.05)
        return drift_m


def frame_of(simulator: SimulatorAddress) -> bytes:
    """What the camera sees now, as a PNG file."""
    camera = SimulatedCamera(simulator.camera)
    camera.connect()
    try:
        return encode_image(camera.newest(5.0).frame, "png").data
    finally:
        camera.disconnect()


def until(is_so: Callable[[], object], timeout_s: float = WAIT_MS / 1000) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, shipped_model: Path) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    (folder / "episodes").mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(
            PageServer(
                folder,
                shipped_model,
                PLANNER_DEADLINE_MS="600",
                # Small steps: the way to a goal takes long enough to be interrupted.
                PLANNER_MAX_STEP_M="0.04",
                PLANNER_EPISODES=str(folder / "episodes"),
            )
        )
        scene = SimulatorOptions("reach", 1, "far")
        simulator = stack.enter_context(SimulatorProcess(scene, folder))
        address, ready = server.wait(), simulator.wait()
        supervisor = stack.enter_context(closing(Supervisor(ready.supervisor)))
        yield stack.enter_context(closing(Cell(folder, address, ready, supervisor)))


def energy(page: Page) -> float:
    return float(page.get_by_test_id("energy-now").inner_text())


def number(page: Page, name: str, attribute: str) -> float:
    return float(page.get_by_test_id(name).get_attribute(attribute) or "nan")


def show(page: Page, cell: Cell, view: str) -> None:
    """Go to a view and wait until it is there."""
    place = {"overview": "/#/", "history": "/#/history"}.get(view, f"/#/{view}/{cell.session}")
    page.goto(cell.server.url + place)
    expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_visible()  # what it shows has arrived


def drop(page: Page, image: bytes, name: str = "goal.png") -> None:
    target = '[data-testid="goal-drop"]'
    page.wait_for_selector(target)
    page.evaluate(_DROP, [target, base64.b64encode(image).decode(), name])


def wait_for_a_newer_frame(page: Page, seq: float) -> None:
    """Wait until an observation after `seq` is drawn."""
    page.wait_for_function(
        "seq => Number(document.querySelector('[data-testid=frame]').dataset.seq) > seq", arg=seq
    )


def test_a_goal_is_dropped_and_the_energy_falls_and_the_heat_map_changes(
    open_page: Open, cell: Cell
) -> None:
    session = cell.work()
    page, witness = open_page(cell.server.url, f"/#/session/{session}")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    expect(page.get_by_test_id("energy-now")).to_have_text(NUMBER)
    expect(page.get_by_test_id("heat")).to_have_attribute("data-sum", NUMBER)
    heat_before = number(page, "heat", "data-sum")
    show(page, cell, "goals")
    expect(page.get_by_test_id("goal-item")).to_have_count(1)
    drop(page, cell.goal)
    expect(page.get_by_test_id("goal-item")).to_have_count(2)
    page.get_by_test_id("goal-remove").first.click()  # the goal from before
    expect(page.get_by_test_id("goal-item")).to_have_count(1)
    page.get_by_test_id("goals-send").click()
    expect(page.get_by_test_id("goals-sent")).not_to_be_empty()
    with cell.server.http() as http:
        path = f"/v1/sessions/{session}/goals/0/image"
        until(lambda: http.get(path).content == cell.goal)
    show(page, cell, "session")
    expect(page.get_by_test_id("frame")).to_have_attribute("data-seq", NUMBER)
    # What was under way is still about the goal before.
    wait_for_a_newer_frame(page, number(page, "frame", "data-seq") + 1)
    first, heat_first = energy(page), number(page, "heat", "data-sum")
    assert heat_first != heat_before
    until(lambda: energy(page) < 0.85 * first, 60.0)
    until(lambda: number(page, "heat", "data-sum") < heat_first)
    assert witness.complaints == []


def test_hold_and_resume_reach_the_arm_and_come_back_as_obeyed(open_page: Open, cell: Cell) -> None:
    page, witness = open_page(cell.server.url, f"/#/session/{cell.work()}")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    cell.send_away()
    for button, state in (("pause", "paused"), ("resume", "running"), ("pause", "paused")):
        page.get_by_test_id(button).click()
        expect(page.get_by_test_id("state")).to_have_attribute("data-state", state)
        expect(page.get_by_test_id("order-status")).to_have_attribute("data-obeyed", "true")
        if state == "paused":
            expect(page.get_by_test_id("order-status")).to_contain_text("standing")
            assert cell.drift_m(1.2) < STILL_M  # longer than a control period
        else:
            assert cell.is_moving_within(20.0)
    page.get_by_test_id("resume").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "running")
    assert witness.complaints == []


def test_a_reloaded_page_goes_on_and_a_lost_connection_comes_back(
    open_page: Open, cell: Cell
) -> None:
    page, witness = open_page(cell.server.url, f"/#/session/{cell.work()}")
    frame, connection = page.get_by_test_id("frame"), page.get_by_test_id("connection")
    expect(frame).to_have_attribute("data-seq", NUMBER)
    before = number(page, "frame", "data-seq")
    page.reload()
    expect(page.get_by_test_id("view-session")).to_be_visible()
    expect(frame).to_have_attribute("data-seq", NUMBER)
    wait_for_a_newer_frame(page, before)
    assert witness.complaints == []
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    expect(connection).not_to_have_attribute("data-state", "live")
    page.context.set_offline(False)
    expect(connection).to_have_attribute("data-state", "live")
    wait_for_a_newer_frame(page, number(page, "frame", "data-seq"))
    assert all("ERR_INTERNET_DISCONNECTED" in each for each in witness.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible_and_fits_a_phone(
    open_page: Open, cell: Cell, scheme: str
) -> None:
    cell.work()
    page, witness = open_page(cell.server.url, color_scheme=scheme)
    found = []
    for view in VIEWS:
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            show(page, cell, view)
            found += [(view, size["width"], *each) for each in violations(page)]
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{view} is {width} px wide"
            button = page.get_by_test_id("stop-all").bounding_box()
            assert button is not None
            assert min(button["width"], button["height"]) >= THUMB_PX, f"{view}: {button}"
            assert 0 <= button["y"] <= size["height"] - button["height"], f"{view}: off screen"
    assert found == []
    assert witness.complaints == []


def violations(page: Page) -> list[tuple[str, str]]:
    """Rules of accessibility that a page breaks, and where."""
    broken = Axe().run(page).response["violations"]
    return [(rule["id"], str(node["target"])) for rule in broken for node in rule["nodes"]]


def test_two_robots_are_seen_at_once_and_the_button_stops_both(open_page: Open, cell: Cell) -> None:
    session = cell.work()
    robot = cell.robot
    assert robot is not None
    with cell.started(has_body=False) as (other, second):
        page, witness = open_page(cell.server.url)
        cards = page.get_by_test_id("session-card")
        expect(cards).to_have_count(2)
        assert {each.get_attribute("data-session") for each in cards.all()} == {session, second}
        page.get_by_test_id("session-picker").select_option(second)
        expect(page.get_by_test_id("view-session")).to_be_visible()
        expect(page.get_by_test_id("frame")).to_have_attribute("data-seq", NUMBER)
        cell.send_away()
        page.get_by_test_id("stop-all").click()
        expect(page.get_by_test_id("stop-status")).to_have_attribute("data-state", "acknowledged")
        assert cell.drift_m(1.0) < STILL_M
        expect(page.get_by_test_id("stop-status")).to_contain_text("2 of 2")
        until(lambda: robot.is_over and other.is_over)
        for each in (robot, other):
            assert "STOPPED" in each.output()
        orders = [e for e in cell.get("/v1/audit")["events"] if e["kind"] == "order_stopped"]
        stood = {each["session_id"] for each in orders if each["standing_at"] is not None}
        assert {session, second} <= stood
        assert witness.complaints == []


def test_the_space_bar_stops_a_moving_arm_and_the_past_keeps_the_recording(
    open_page: Open, cell: Cell
) -> None:
    session = cell.work()
    robot = cell.robot
    page, witness = open_page(cell.server.url, f"/#/session/{session}")
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    until(lambda: cell.sessions()[session]["plans"] > 2)  # a past that can be looked through
    cell.send_away()
    page.keyboard.press("Space")
    expect(page.get_by_test_id("stop-status")).to_have_attribute("data-state", "acknowledged")
    assert cell.drift_m(1.0) < STILL_M
    until(lambda: robot is None or robot.is_over)
    show(page, cell, "history")
    row = page.locator(f'[data-testid="history-session"][data-session="{session}"]')
    expect(row).to_be_visible()
    expect(page.get_by_test_id("audit")).to_contain_text("stop")
    page.goto(f"{cell.server.url}/#/history/{session}")
    look_through(page)
    with page.expect_download() as waiting:
        page.get_by_test_id("history-download").first.click()
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert archive.testzip() is None
        assert any(name.endswith(".mp4") for name in archive.namelist())
    assert witness.complaints == []


def look_through(page: Page) -> None:
    """Scrub from the first to the last moment of a past session, and see both."""
    seq, frame = page.get_by_test_id("history-seq"), page.get_by_test_id("history-frame")
    expect(seq).to_have_text(re.compile(r"\d"))
    page.get_by_test_id("history-scrub").focus()
    seen = []
    for key in ("Home", "End"):
        page.keyboard.press(key)
        page.wait_for_function(
            "() => document.querySelector('[data-testid=history-frame]').naturalWidth > 0"
        )
        expect(frame).to_be_visible()
        seen.append(seq.inner_text())
    assert seen[0] != seen[1]
