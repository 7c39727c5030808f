"""How fast the operator's page is: loading, size, the way from a robot's look to the drawn frame, four robots at once.

`python -m benchmarks.page` takes about two minutes; `--quick` only shows that everything runs. It measures page,
browser and the server's way to them on a machine with nothing else to do. The model is a tiny one of random weights,
whose plans cost next to nothing: what planning takes is the business of `benchmarks.serving`. Writes
benchmarks/results/page.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser
from rich.console import Console
from rich.table import Table

from benchmarks.hardware import hardware
from benchmarks.page_robots import PacedRobots
from benchmarks.page_scene import PageServer, ServerAddress, browsing, find_browser
from models import config
from models.checkpoint import save_world_model
from models.world_model import WorldModel

RESULTS = Path("benchmarks/results/page.json")
SESSIONS = 4
RATE_HZ = 10.0
SIZE = {"width": 1280, "height": 800}
TARGETS = {
    "page load, p95": (300.0, "ms"),
    "bytes in all": (500_000.0, "B"),
    "look to drawn frame, p95": (150.0, "ms"),
    "plans not drawn, four robots": (0.02, "of all"),
}

# Notes when which observation stands on which canvas, and how long every frame of the browser took.
_WATCH = """
() => {
    window.watched = { drawn: [], ticks: [] };
    const newest = new Map();
    const look = (now) => {
        window.watched.ticks.push(now);
        for (const canvas of document.querySelectorAll("canvas[data-seq]")) {
            const owner = canvas.closest("[data-session]");
            const name = owner ? owner.dataset.session : location.hash.split("/")[2];
            const seq = Number(canvas.dataset.seq);
            if (canvas.dataset.seq === "" || newest.get(name) === seq) continue;
            newest.set(name, seq);
            window.watched.drawn.push([name, seq, performance.timeOrigin + performance.now()]);
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}
"""
_LOADED = """
() => new Promise((resolve) => {
    const tell = () => resolve({
        load_ms: performance.getEntriesByType("navigation")[0].loadEventEnd,
        bytes: ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
            .filter((entry) => !entry.name.includes("/v1/"))
            .reduce((sum, entry) => sum + entry.transferSize, 0),
        files: performance.getEntriesByType("resource").filter((entry) => !entry.name.includes("/v1/")).length + 1,
    });
    const wait = () => performance.getEntriesByType("navigation")[0].loadEventEnd > 0 ? tell() : setTimeout(wait, 10);
    wait();
})
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured: page loads, and the time that robots drive [s]."""

    loads: int
    drive_s: float


@dataclass(frozen=True)
class Drive:
    """What the browser showed of driving robots.

    Attributes:
        sessions: Robots at once.
        plans: Plans made while it watched.
        drawn: Of them, those whose frame was drawn.
        not_drawn: Share of the others.
        lag_p50_ms: From a robot's look to its drawn frame, planning included [ms].
        lag_p95_ms: The same, 95th percentile [ms].
        plan_p50_ms: Of it, until the robot had its plan [ms].
        frame_p95_ms: Time between two frames of the browser, 95th percentile [ms].
        long_frames: Share of its frames that took longer than 50 ms.
    """

    sessions: int
    plans: int
    drawn: int
    not_drawn: float
    lag_p50_ms: float
    lag_p95_ms: float
    plan_p50_ms: float
    frame_p95_ms: float
    long_frames: float


FULL = Effort(loads=30, drive_s=30.0)
QUICK = Effort(loads=3, drive_s=4.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 0 when every target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of everything")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    effort, console = QUICK if options.quick else FULL, Console()
    executable = find_browser()
    if executable is None:
        console.print("no browser: apt-get install chromium")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_world_model(WorldModel(config.tiny()), folder / "tiny")
        planners = json.dumps({"icem": {"uniform_candidates": 8, "cloud_elites": []}})
        process = PageServer(
            folder, folder / "tiny", PLANNER_DEFAULT_PLANNER="icem", PLANNER_PLANNERS=planners
        )
        server = stack.enter_context(process).wait()
        browser = stack.enter_context(browsing(executable))
        load = measure_load(browser, server, effort.loads)
        one = measure_drive(browser, server, 1, effort.drive_s)
        four = measure_drive(browser, server, SESSIONS, effort.drive_s)
        version = browser.version
    reached = {
        "page load, p95": load["p95_ms"],
        "bytes in all": load["bytes"],
        "look to drawn frame, p95": one.lag_p95_ms,
        "plans not drawn, four robots": four.not_drawn,
    }
    _show(console, load, [one, four])
    is_met = _judge(console, reached)
    if not options.quick:
        result = {
            "hardware": hardware(),
            "browser": f"Chromium {version}",
            "effort": asdict(effort),
            "load": load,
            "one_session": asdict(one),
            "four_sessions": asdict(four),
            "targets": reached,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if is_met or options.quick else 1


def measure_load(browser: Browser, server: ServerAddress, loads: int) -> dict[str, float]:
    """Load the page with an empty cache, again and again; what it then asks the API for is not counted."""
    times_ms, found = [], {"bytes": 0, "files": 0}
    for _ in range(loads + 1):
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(server.url)
        found = page.evaluate(_LOADED)
        times_ms.append(found["load_ms"])
        context.close()
    p50, p95 = np.percentile(times_ms[1:], (50, 95))  # the first one warms the server's files
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "bytes": found["bytes"],
        "files": found["files"],
        "loads": loads,
    }


def measure_drive(browser: Browser, server: ServerAddress, count: int, drive_s: float) -> Drive:
    """Let robots look ten times a second, and note when the page shows what."""
    with PacedRobots(server, count, RATE_HZ) as robots:
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        page = context.new_page()
        place = f"#/session/{robots.sessions[0]}" if count == 1 else "#/"
        page.goto(f"{server.url}/{place}")
        page.wait_for_selector("canvas[data-seq]", state="attached")
        page.wait_for_timeout(2000)  # pictures and plots settle
        page.evaluate(_WATCH)
        begun_s = time.time()
        page.wait_for_timeout(1000 * drive_s)
        watched, ended_s = page.evaluate("window.watched"), time.time()
        context.close()
    # What was on its way at either end is not counted.
    return _drive(robots, watched, begun_s + 0.5, ended_s - 0.5)


def _drive(robots: PacedRobots, watched: dict[str, Any], begun_s: float, ended_s: float) -> Drive:
    looked = {key: t for key, t in robots.looked_s.items() if begun_s < t < ended_s}
    planned = {key: robots.planned_s[key] for key in looked if key in robots.planned_s}
    shown = {(name, seq): 1e-3 * at_ms for name, seq, at_ms in watched["drawn"]}
    lags_ms = [1e3 * (shown[key] - looked[key]) for key in planned if key in shown]
    plans_ms = [1e3 * (at_s - looked[key]) for key, at_s in planned.items()]
    frames_ms = np.diff(watched["ticks"])
    p50, p95 = np.percentile(lags_ms, (50, 95)) if lags_ms else (np.inf, np.inf)
    return Drive(
        sessions=len(robots.sessions),
        plans=len(planned),
        drawn=len(lags_ms),
        not_drawn=1.0 - len(lags_ms) / max(1, len(planned)),
        lag_p50_ms=float(p50),
        lag_p95_ms=float(p95),
        plan_p50_ms=float(np.median(plans_ms)),
        frame_p95_ms=float(np.percentile(frames_ms, 95)),
        long_frames=float((frames_ms > 50).mean()),
    )


def _show(console: Console, load: dict[str, float], drives: list[Drive]) -> None:
    table = Table("", *(f"{drive.sessions} robot(s) at {RATE_HZ:g} Hz" for drive in drives))
    for name in (key for key in asdict(drives[0]) if key != "sessions"):
        values = [getattr(drive, name) for drive in drives]
        table.add_row(name, *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    console.print(
        f"page load p50 {load['p50_ms']:.0f} ms, p95 {load['p95_ms']:.0f} ms; "
        f"{load['files']:.0f} files, {load['bytes'] / 1000:.0f} kB"
    )
    console.print(table)


def _judge(console: Console, reached: dict[str, float]) -> bool:
    table = Table("target", "at most", "measured", "", title="Targets")
    is_met = True
    for name, (wanted, unit) in TARGETS.items():
        is_good = reached[name] <= wanted
        is_met &= is_good
        verdict = "met" if is_good else "MISSED"
        table.add_row(name, f"{wanted:g} {unit}", f"{reached[name]:.3f}", verdict)
    console.print(table)
    return is_met


if __name__ == "__main__":
    raise SystemExit(main())
