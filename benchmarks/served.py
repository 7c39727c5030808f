"""A real server process on free loopback ports, timed from outside through its two doors.

Everything here uses the robot's own client code: what is measured is what a robot gets.
"""

from __future__ import annotations

import http.client
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import zmq
from numpy.typing import NDArray

from robot_client.arms.dummy import START_POSE, DummyArm
from robot_client.cameras.testcard import TestCard
from robot_client.codec import encode_image
from robot_client.errors import RunError
from robot_client.loop import ControlLoop, StepRecord
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.processes import Child
from robot_client.protocol import Act, Observe, Ping, Pong, decode
from robot_client.rest import RestClient, SessionOptions
from robot_client.safety import SafetyLimits
from robot_client.server_link import ServerLink
from robot_client.tasks import SubGoal, Task

_START_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 120.0  # a machine that is busy with something else plans slowly, too
_PROBE_EVERY_S = 0.02

Samples = tuple[float, ...]


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: Its HTTP address.
        rest: A client of it.
        card: What GET /v1/model says.
    """

    url: str
    rest: RestClient
    card: dict[str, Any]

    @property
    def endpoint(self) -> str:
        """Where robots connect."""
        return str(self.card["zmq_endpoint"])


@contextmanager
def serving(model: Path) -> Iterator[Served]:
    """Run `uvicorn planner_server.app:app` for a model folder, and end it by its own process id.

    Raises:
        RunError: It ended or did not become ready; the message has its last words.
    """
    environment = {
        "PLANNER_MODEL": str(model.resolve()),
        "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*",
    }
    arguments = ["-m", "uvicorn", "planner_server.app:app", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with Child("the planner server", arguments, log, environment) as child:
            child.wait_until(lambda: _url(child) is not None, _START_TIMEOUT_S)
            url = _url(child) or ""
            rest = RestClient(url)
            child.wait_until(rest.is_ready, _START_TIMEOUT_S)
            yield Served(url, rest, rest.model())


def time_pings(server: Served, count: int) -> Samples:
    """Time ping to pong on an idle server [ms]."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.endpoint)
        return tuple(_ping(socket) for _ in range(count + 1))[1:]  # the first one connects


def time_observations(
    server: Served, encoding: Literal["raw", "jpeg"], count: int
) -> tuple[Samples, Samples]:
    """Time observe to act with 256 x 256 px frames.

    Returns:
        The whole way, compression of the frame included [ms], and what of it is neither encoding nor
        searching: both codecs, the wire, the queue [ms].
    """
    whole, overhead = [], []
    with closing(_link(server)) as link:
        link.open()
        for seq in range(count):
            frame = TestCard().newest(1.0).frame
            started = time.monotonic()
            _send(link, seq, frame, encoding)
            act = _wait(link)
            whole.append(1e3 * (time.monotonic() - started))
            overhead.append(whole[-1] - act.encode_ms - act.plan_ms)
    return tuple(whole), tuple(overhead)


def time_health(server: Served, count: int, *, is_planning: bool) -> Samples:
    """Time GET /healthz on a kept connection [ms], the server idle or always within a plan."""
    samples = []
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60.0)
    with closing(_link(server)) as link, closing(connection):
        link.open()
        is_pending = False
        for seq in range(count):
            if is_planning and not is_pending:
                _send(link, seq, TestCard().newest(1.0).frame, "raw")
            samples.append(_probe(connection))
            is_pending = link.client.poll_act(_PROBE_EVERY_S) is None
        if is_planning and is_pending:
            _wait(link)
    return tuple(samples)


def time_loop(server: Served, steps: int) -> tuple[Samples, Samples]:
    """Time the passes of the real control loop with an arm and a camera that need no time.

    One pass lasts from a frame's capture to the next one's. Its nominal length is the time to the plan's arrival
    plus one control period, during which the arm moves.

    Returns:
        Start to start [ms], and what of it is beyond the nominal length [ms].
    """
    records: list[StepRecord] = []
    with closing(_link(server)) as link:
        link.open()
        loop = ControlLoop(
            arm=DummyArm(),
            camera=TestCard(),
            link=link,
            task=_task(steps + 1),
            is_moving_allowed=True,
            on_step=records.append,
        )
        end = loop.run()
        period_ms = 1e3 * link.client.control_period_s
    if not end.is_complete:
        raise RunError(f"the control loop stopped: {end.reason}")
    passes = [
        (1e3 * (after.captured.t_capture - record.captured.t_capture), record.latency_ms)
        for record, after in pairwise(records)
        if record.captured and after.captured and record.latency_ms is not None
    ]
    whole = tuple(interval_ms for interval_ms, _ in passes)
    return whole, tuple(interval_ms - latency_ms - period_ms for interval_ms, latency_ms in passes)


def _url(child: Child) -> str | None:
    found = re.search(r"running on (http://[\d.:]+)", child.output())
    return found[1] if found else None


def _link(server: Served) -> ServerLink:
    """A session of its own, with a goal that is not what the camera shows."""
    client = PlannerClient(ServerAddress(server.endpoint))
    goal = np.ascontiguousarray(TestCard().newest(1.0).frame[:, ::-1])
    return ServerLink(client, server.rest, SessionOptions(), [encode_image(goal, "png").data])


def _ping(socket: zmq.Socket[bytes]) -> float:
    started = time.monotonic()
    socket.send(Ping(t=started).encode())
    if not socket.poll(round(1e3 * _ANSWER_TIMEOUT_S)) or not isinstance(
        decode(socket.recv()), Pong
    ):
        raise RunError("the server does not answer a ping")
    return 1e3 * (time.monotonic() - started)


def _send(link: ServerLink, seq: int, frame: NDArray[np.uint8], encoding: str) -> None:
    observation = Observe(
        session=link.client.session,
        seq=seq,
        t_capture=time.monotonic(),
        frame=frame if encoding == "raw" else encode_image(frame, encoding),
        state=START_POSE,
    )
    link.client.send_observation(observation)


def _wait(link: ServerLink) -> Act:
    reply = link.client.poll_act(_ANSWER_TIMEOUT_S)
    if not isinstance(reply, Act):
        raise RunError(f"an observation was answered with {reply}")
    return reply


def _probe(connection: http.client.HTTPConnection) -> float:
    started = time.monotonic()
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    response.read()
    if response.status != http.client.OK:
        raise RunError(f"GET /healthz answered {response.status}")
    return 1e3 * (time.monotonic() - started)


def _task(steps: int) -> Task:
    """Keep moving for so many plans, however long each takes on a busy machine."""
    return Task(
        name="latency",
        description="Measure the loop itself.",
        sub_goals=(SubGoal(name="move", max_steps=steps),),
        settled_step_m=0.0,
        stop_after_missed=1000,
        safety=SafetyLimits(max_observation_age_s=_ANSWER_TIMEOUT_S),
    )
