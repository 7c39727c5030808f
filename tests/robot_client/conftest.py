"""A stand-in planner server with real sockets, and Hypothesis without its clock."""

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, settings

from robot_client import protocol
from robot_client.arms.dummy import DummyArm
from robot_client.cameras.testcard import TestCard
from robot_client.errors import ProtocolError
from robot_client.loop import ControlLoop
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import Act, ActionLimits, Hello, Observe, Ping, Pong, Welcome
from robot_client.records import RunEnd, StepRecord
from robot_client.rest import RestClient, SessionOptions
from robot_client.server_link import ServerLink
from robot_client.tasks import SubGoal, Task

# These machines may be busy, and slowness is no fault of a law.
settings.register_profile(
    "robot_client", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.load_profile("robot_client")

PERIOD_S = 0.2
TASK = Task(
    name="test",
    description="Three steps.",
    sub_goals=(SubGoal(name="a", max_steps=3),),
    stop_after_missed=3,
)


def bind_when_free(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """ZMQ frees the port of a closed socket in a thread of its own, a moment later."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        with contextlib.suppress(zmq.ZMQError):
            socket.bind(endpoint)
            return
        time.sleep(0.02)
    socket.bind(endpoint)


class StandIn:
    """A ROUTER and an HTTP server that answer as scripted.

    Attributes:
        on_observe: Gets each observation and a function that sends bytes to the robot.
        observed: Everything that arrived, in order.
        known_sessions: Others are answered with unknown_session.
        is_refusing_goals: Uploads are answered with invalid_frame.
    """

    def __init__(self, zmq_port: int = 0, http_port: int = 0, host: str = "127.0.0.1") -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        bind_when_free(self._socket, f"tcp://{host}:{zmq_port or '*'}")
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
        self.on_observe: Callable[[Observe, Callable[[bytes], None]], None] = self.answer
        self.observed: list[Observe] = []
        self.hellos: list[Hello] = []
        self.goals: list[bytes] = []
        self.known_sessions: set[str] = set()
        self.is_refusing_goals = False
        self.step = np.array([0.02, 0, 0, 0, 0, 0, 0], np.float64)
        self.model, self.control_period_s = "none", PERIOD_S
        self.state = "running"
        self.card: dict[str, Any] | None = None
        self.asked_with: str | None = None
        self.acks: list[int] = []
        self.reports: list[tuple[protocol.Ack, float]] = []
        self._pushes: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._peer = b""
        self._greeted: set[bytes] = set()
        self._dead = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._http = ThreadingHTTPServer((host, http_port), self._handler())
        self._http_thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        self._http_thread.start()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def link(self, goals: int = 1) -> ServerLink:
        client = PlannerClient(ServerAddress(self.endpoint))
        return ServerLink(client, RestClient(self.url), SessionOptions(), [b"image"] * goals)

    def act(self, observe: Observe, **changes: Any) -> Act:
        values = {
            "session": observe.session,
            "seq": observe.seq,
            "actions": self.step[None],
            "predicted_states": (observe.state + self.step)[None],
            "energy": 0.3,
            "energy_now": 0.5,
            "encode_ms": 1.0,
            "plan_ms": 2.0,
            "queue_ms": 0.1,
            "evaluations": 64,
            "goal_index": observe.goal_index,
        }
        return Act(**{**values, **changes})

    def answer(self, observe: Observe, send: Callable[[bytes], None]) -> None:
        send(self.act(observe).encode())

    def push(self, message: protocol.Message) -> None:
        """Send something that the robot has not asked for."""
        self._pushes.put(message.encode())

    def die(self) -> None:
        """Fall silent as a killed process would: sockets closed, nothing said."""
        self._dead.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close(self) -> None:
        self.die()
        self._http.shutdown()
        self._http.server_close()
        self._http_thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._dead.is_set():
            while not self._pushes.empty():
                self._send_bytes(self._peer, self._pushes.get())
            if not self._socket.poll(5):
                continue
            peer, payload = self._socket.recv_multipart()
            self._peer = peer
            try:
                self._handle(peer, protocol.decode(payload))
            except ProtocolError as error:
                self._send(peer, protocol.ErrorReply(error.code, error.message))
        self._socket.close(linger=0)

    def _handle(self, peer: bytes, message: protocol.Message) -> None:
        if isinstance(message, Ping):
            self._send(peer, Pong(t=message.t))
        elif isinstance(message, Hello):
            self.hellos.append(message)
            if message.session is not None and message.session not in self.known_sessions:
                self._send(peer, protocol.ErrorReply("unknown_session", "start another"))
                return
            self._greeted.add(peer)
            self._send(peer, self.welcome(message.session or "new"))
        elif isinstance(message, protocol.Ack):
            self.acks.append(message.order)
            self.reports.append((message, time.monotonic()))
        elif isinstance(message, Observe) and peer not in self._greeted:
            self._send(peer, protocol.ErrorReply("unauthorised", "say hello first", message.seq))
        elif isinstance(message, Observe):
            self.observed.append(message)
            self.on_observe(message, lambda data: self._send_bytes(peer, data))

    def welcome(self, session: str) -> Welcome:
        return Welcome(
            protocol=1,
            server="stand-in",
            session=session,
            model=self.model,
            frame_size=(8, 8),
            control_period_s=self.control_period_s,
            action_limits=ActionLimits(0.15, 0.0, 1.0),
            planners=("cem",),
            state=self.state,
        )

    def _send(self, peer: bytes, message: protocol.Message) -> None:
        self._send_bytes(peer, message.encode())

    def _send_bytes(self, peer: bytes, data: bytes) -> None:
        self._socket.send_multipart([peer, data])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                session = f"s{len(stand_in.known_sessions) + 1}"
                stand_in.known_sessions.add(session)
                self._reply(201, {"id": session})

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                boundary = self.headers["Content-Type"].split("boundary=")[1].encode()
                parts = body.split(b"--" + boundary)[1:-1]
                if stand_in.is_refusing_goals:
                    self._reply(422, {"code": "invalid_frame", "message": "no image"})
                    return
                stand_in.goals = [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts]
                self._reply(200, {"goals": [{"index": i} for i in range(len(parts))]})

            def do_DELETE(self) -> None:
                stand_in.known_sessions.remove(self.path.rsplit("/", 1)[1])
                self._reply(204, None)

            def do_GET(self) -> None:
                stand_in.asked_with = self.headers["Authorization"]
                if self.path == "/v1/model" and stand_in.card is not None:
                    self._reply(200, stand_in.card)
                    return
                error = {"code": "not_ready", "message": "loading", "request_id": "r"}
                self._reply(*((200, {"status": "ok"}) if self.path == "/readyz" else (503, error)))

            def _reply(self, status: int, values: dict[str, Any] | None) -> None:
                data = b"" if values is None else json.dumps(values).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


class WatchedArm(DummyArm):
    """Notes when it was told what."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, float]] = []

    def move_to(self, pose: np.ndarray, duration_s: float) -> None:
        self.calls.append(("move", time.monotonic()))
        super().move_to(pose, duration_s)

    def hold(self) -> None:
        self.calls.append(("hold", time.monotonic()))
        super().hold()

    def stop(self) -> None:
        self.calls.append(("stop", time.monotonic()))
        super().stop()

    def grasp(self) -> None:
        self.calls.append(("grasp", time.monotonic()))
        super().grasp()

    def open_gripper(self) -> None:
        self.calls.append(("open", time.monotonic()))
        super().open_gripper()

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def time_of(self, name: str) -> float:
        return next(when for called, when in self.calls if called == name)


def run_loop(
    stand_in: Any, arm: DummyArm, task: Task = TASK, **changes: Any
) -> tuple[RunEnd, list[StepRecord]]:
    records: list[StepRecord] = []
    link = stand_in.link(goals=len(task.sub_goals))
    link.open()
    values = {
        "arm": arm,
        "camera": TestCard(),
        "link": link,
        "task": task,
        "is_moving_allowed": True,
        "on_step": records.append,
    }
    try:
        return ControlLoop(**{**values, **changes}).run(), records
    finally:
        link.close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


@pytest.fixture(scope="session")
def robot_host() -> Iterator[str]:
    """Address of a simulated Franka that speaks libfranka's protocol, in a process of its own."""
    pytest.importorskip("franky_sim")
    host = f"127.0.41.{2 + os.getpid() % 250}"  # two runs of the tests may go side by side
    command = ["-u", "-m", "franky_sim.run_server", "-s", "mujoco", "--hostname", host]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    line = ""
    while "Connect to the server" not in line and time.monotonic() < deadline:
        assert process.poll() is None, "franky-sim has ended"
        if select.select([process.stdout], [], [], 0.1)[0]:
            line = process.stdout.readline()
    yield host
    process.terminate()
    process.wait(10)
    process.stdout.close()
