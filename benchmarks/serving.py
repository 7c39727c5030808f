"""How the service serves: round trips, health under load, and many robots at once.

`python -m benchmarks.serving` takes about six minutes on two cores; `--quick` only shows that everything runs. It
measures the machine as it finds it: stop what else runs there. Writes benchmarks/results/serving.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import echoes
from benchmarks.hardware import hardware
from benchmarks.server_process import ServerProcess
from benchmarks.swarm import RATE_HZ, Swarm, SwarmResult
from planner_server.images import decode_image
from robot_client import codec
from robot_client.protocol import (
    Ack,
    ErrorReply,
    Hello,
    Message,
    Observe,
    Pause,
    Ping,
    Pong,
    decode,
)
from robot_client.rest import RestClient, SessionOptions

RESULTS = Path("benchmarks/results/serving.json")
FRAME_PX = 256
STATE = (0.5, 0.0, 0.35, 3.1416, 0.0, 0.0, 0.0)
DECODING = "decoding the JPEG, in process"
SMALL_BUDGET = 8  # candidates per plan of the swarm: what a CPU can do for 32 robots
TARGETS = {
    "ZMQ round trip and decoding, JPEG, p50": (2.0, "ms, at most"),
    "/healthz under load, p99": (20.0, "ms, at most"),
    "fairness": (0.8, "at least"),
    "memory growth per minute": (0.2, "MiB, at most"),  # what can be told from none in this time
    "late without a warning": (0.0, "at most"),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        trips: Round trips of each kind.
        probes: Questions to /healthz under load.
        robots: Robots at once.
        settle_s: For how long they drive before the server's memory is watched [s].
        duration_s: For how long they drive then [s].
    """

    trips: int
    probes: int
    robots: int
    settle_s: float
    duration_s: float


FULL = Effort(trips=1000, probes=500, robots=32, settle_s=180.0, duration_s=90.0)
QUICK = Effort(trips=20, probes=20, robots=4, settle_s=1.0, duration_s=3.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 0 when every target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of everything")
    parser.add_argument("--model", type=Path, default=Path("models/shipped"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    console = Console()
    trips = round_trips(options.model, effort)
    _show(console, "Round trips of one 256 x 256 frame, no planning", trips)
    health, swarm = under_load(options.model, effort)
    _show(console, "While the worker is saturated", health)
    _show_swarm(console, swarm, effort)
    reached = {
        "ZMQ round trip and decoding, JPEG, p50": trips["zmq, JPEG"]["p50_ms"]
        + trips[DECODING]["p50_ms"],
        "/healthz under load, p99": health["GET /healthz"]["p99_ms"],
        "fairness": swarm.fairness,
        "memory growth per minute": swarm.growth_mib_per_minute,
        "late without a warning": float(swarm.late_unwarned),
    }
    is_met = _judge(console, reached)
    if not options.quick:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "hardware": hardware(),
            "python": platform.python_version(),
            "effort": asdict(effort),
            "round_trips": trips,
            "under_load": health,
            "swarm": asdict(swarm),
            "targets": reached,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if is_met or options.quick else 1


# --- round trips ----------------------------------------------------------------------------------


def round_trips(model: Path, effort: Effort) -> dict[str, dict[str, float]]:
    """Send a frame and wait for an answer, over every way.

    The session is paused: the server reads and checks the message, and refuses it. What it would do besides before
    it plans, decoding the image, is timed by itself.
    """
    frame = picture()
    jpeg = codec.encode_image(frame, "jpeg")
    results = {
        DECODING: _percentiles(_timed(partial(decode_image, jpeg.data, "frame"), effort.trips))
    }
    with ServerProcess(model) as server, Talker(server) as talker:
        talker.pause()
        for name, look in (("zmq, JPEG", jpeg), ("zmq, raw", frame)):
            results[name] = _percentiles(_timed(partial(talker.observe, look), effort.trips))
        results["zmq, ping"] = _percentiles(_timed(talker.ping, effort.trips))
        for name, data in (
            ("http, JPEG", jpeg.data),
            ("http, PNG", codec.encode_image(frame, "png").data),
        ):
            with echoes.HttpAsker(server.url, talker.session, data, STATE) as asker:
                results[name] = _percentiles(_timed(asker.ask, effort.trips))
    payloads = {"JPEG": talker.message(jpeg, 0).encode(), "raw": talker.message(frame, 0).encode()}
    for name, echo in (("websocket + msgpack", echoes.WebsocketEcho), ("gRPC", echoes.GrpcEcho)):
        for kind, payload in payloads.items():
            with echo() as peer:
                trip = _percentiles(_timed(partial(peer.ask, payload), effort.trips))
                results[f"{name} echo, {kind}"] = trip
    return results


class Talker:
    """One robot that says one thing at a time."""

    def __init__(self, server: ServerProcess) -> None:
        self._rest = RestClient(server.url)
        self.session = self._rest.create_session(SessionOptions())
        self._rest.put_goals(self.session, [codec.encode_image(picture()[::-1], "png").data])
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(server.zmq)
        self._seq = 0
        self._ask(Hello(1, "benchmark", session=self.session))

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def pause(self) -> None:
        """Have observations refused, so that what is measured is everything but decoding and planning."""
        self._rest.give_order(self.session, "pause")
        order = self._hear()
        assert isinstance(order, Pause)
        self._socket.send(Ack(self.session, order.order).encode())
        time.sleep(1.0)  # whatever was repeated meanwhile
        while self._socket.poll(0):
            self._socket.recv()

    def message(self, frame: Any, seq: int) -> Observe:
        """Return an observation."""
        return Observe(self.session, seq, time.monotonic(), frame, np.array(STATE))

    def observe(self, frame: Any) -> None:
        """Send a frame, encoded anew, and wait for the answer."""
        self._seq += 1
        answer = self._ask(self.message(frame, self._seq))
        assert isinstance(answer, ErrorReply)
        assert answer.code == "paused", answer

    def ping(self) -> None:
        """Ask whether anybody is there."""
        assert isinstance(self._ask(Ping(0.0)), Pong)

    def _ask(self, message: Message) -> Message:
        self._socket.send(message.encode())
        return self._hear()

    def _hear(self) -> Message:
        assert self._socket.poll(30_000), "no answer"
        return decode(self._socket.recv())


# --- under load -----------------------------------------------------------------------------------


def under_load(model: Path, effort: Effort) -> tuple[dict[str, dict[str, float]], SwarmResult]:
    """Let many robots drive, and ask about the server's health meanwhile."""
    settings = {
        "PLANNER_DEFAULT_PLANNER": "icem",
        # One core for the search, one for the doors and the robots, which share the machine here.
        "PLANNER_TORCH_THREADS": str(max(1, (os.cpu_count() or 2) - 1)),
        "PLANNER_DEADLINE_MS": f"{1e3 / RATE_HZ:g}",
        "PLANNER_PLANNERS": json.dumps(
            {"icem": {"uniform_candidates": SMALL_BUDGET, "cloud_elites": []}}
        ),
    }
    with ExitStack() as stack:
        # Records on a disk, as in a lab: those of a server without one are in the memory that is measured.
        settings["PLANNER_DATA_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(ServerProcess(model, **settings))
        swarm = stack.enter_context(Swarm(server, effort.robots, picture(), STATE))
        swarm.start(effort.settle_s, effort.duration_s)
        health = {}
        for path in ("/healthz", "/readyz"):
            with echoes.Getter(server.url, path) as getter:
                health[f"GET {path}"] = _percentiles(
                    _timed(getter.ask, effort.probes, pause_s=0.01)
                )
        return health, swarm.result()


# --- helpers --------------------------------------------------------------------------------------


def picture() -> NDArray[np.uint8]:
    """Return a frame with the detail of a photograph, uint8 RGB [256, 256, 3]."""
    rng = np.random.default_rng(0)
    smooth = rng.random((16, 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
    noise = rng.normal(0, 0.03, (FRAME_PX, FRAME_PX, 3))
    return (255 * (smooth + noise).clip(0, 1)).astype(np.uint8)


def _timed(work: Callable[[], object], count: int, pause_s: float = 0.0) -> NDArray[np.float64]:
    for _ in range(max(2, count // 20)):  # connections, caches
        work()
    times_ms = np.empty(count)
    for index in range(count):
        started = time.perf_counter()
        work()
        times_ms[index] = 1e3 * (time.perf_counter() - started)
        if pause_s:
            time.sleep(pause_s)
    return times_ms


def _percentiles(times_ms: NDArray[np.float64]) -> dict[str, float]:
    p50, p90, p99 = (float(value) for value in np.percentile(times_ms, (50, 90, 99)))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "samples": len(times_ms)}


def _show(console: Console, title: str, rows: dict[str, dict[str, float]]) -> None:
    table = Table("", "p50 [ms]", "p90 [ms]", "p99 [ms]", "samples", title=title)
    for name, row in rows.items():
        numbers = [f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")]
        table.add_row(name, *numbers, str(int(row["samples"])))
    console.print(table)


def _show_swarm(console: Console, swarm: SwarmResult, effort: Effort) -> None:
    driven_s = effort.settle_s + effort.duration_s
    title = f"{effort.robots} robots, 4 observations per second each, {driven_s:g} s"
    table = Table("", "", title=title)
    for name, value in asdict(swarm).items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    console.print(table)


def _judge(console: Console, reached: dict[str, float]) -> bool:
    table = Table("target", "wanted", "measured", "", title="Targets")
    is_met = True
    for name, (wanted, words) in TARGETS.items():
        is_good = reached[name] >= wanted if words == "at least" else reached[name] <= wanted
        is_met &= is_good
        table.add_row(
            name, f"{wanted:g} {words}", f"{reached[name]:.3f}", "met" if is_good else "MISSED"
        )
    console.print(table)
    return is_met


if __name__ == "__main__":
    raise SystemExit(main())
