"""A tiny world model with random weights, and real servers that serve it on free ports."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import torch
import uvicorn
import zmq
from numpy.typing import NDArray
from pydantic import SecretStr

from models import config as model_config
from models.checkpoint import save_world_model
from models.world_model import WorldModel
from planner_server.app import create_app
from planner_server.settings import Settings
from robot_client.protocol import Hello, Message, Observe, Ping, Pong, Welcome, decode

START_TIMEOUT_S = 60.0
POSE = [0.58, -0.002, 0.2476, -3.067, 0.031, -1.913, 0.0]


@dataclass(frozen=True)
class Address:
    """Where a running server listens."""

    url: str
    zmq: str

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30.0, **options)

    def wait_for_observations(self, session: str, count: int = 1, timeout_s: float = 30.0) -> None:
        """Return once so many observations of a session have arrived."""
        deadline = time.monotonic() + timeout_s
        with self.http() as http:
            while http.get(f"/v1/sessions/{session}").json()["observations"] < count:
                assert time.monotonic() < deadline, "the observations did not arrive"
                time.sleep(0.01)

    def wait_until_planning(self, session: str, timeout_s: float = 30.0) -> None:
        """Return once the plan for a session's first observation has begun, where no other waits."""
        self.wait_for_observations(session, 1, timeout_s)
        deadline = time.monotonic() + timeout_s
        with self.http() as http:
            while "planner_waiting_requests 0.0" not in http.get("/metrics").text:
                assert time.monotonic() < deadline, "the plan never began"
                time.sleep(0.01)


class Robot:
    """A DEALER that speaks the protocol, one message at a time."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.connect(endpoint)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def send(self, message: Message) -> None:
        self.socket.send(message.encode())

    def receive(self, timeout_s: float = 20.0) -> Message:
        assert self.socket.poll(round(1000 * timeout_s)), "the server did not answer"
        return decode(self.socket.recv())

    def is_silent(self, time_s: float = 0.2) -> bool:
        return not self.socket.poll(round(1000 * time_s))

    def ask(self, message: Message | bytes) -> Message:
        self.socket.send(message if isinstance(message, bytes) else message.encode())
        return self.receive()

    def greet(self, session: str | None = None, token: str | None = None) -> Welcome:
        welcome = self.ask(Hello(protocol=1, client="test", token=token, session=session))
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def ping(self) -> float:
        """Return the time to the answer [s]; nothing else may be under way."""
        started = time.monotonic()
        assert isinstance(self.ask(Ping(t=started)), Pong)
        return time.monotonic() - started


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved world model of a few thousand random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_world_model(WorldModel(model_config.tiny()), path)
    return path


@pytest.fixture(scope="session")
def make_settings(model_dir: Path) -> Callable[..., Settings]:
    """Settings of a server on free ports that serves the tiny model."""

    def make(**changes: Any) -> Settings:
        defaults: dict[str, Any] = {
            "model": model_dir,
            "zmq_endpoint": "tcp://127.0.0.1:*",
            "torch_threads": 1,
            "precision": "float32",
            "default_planner": "icem",
            "planners": {"icem": {"uniform_candidates": 32, "cloud_candidates": 16}},
        }
        return Settings(**(defaults | changes))

    return make


@contextmanager
def serving(settings: Settings, token: str | None = None) -> Iterator[Address]:
    """Run a real server in a thread of this process; `token` is one of its own."""
    config = uvicorn.Config(create_app(settings), port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        known = SecretStr(token) if token else settings.token
        yield _describe(f"http://127.0.0.1:{port}", known)
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)


def _describe(url: str, token: Any = None) -> Address:
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    _wait_until_ready(url)
    answer = httpx.get(f"{url}/v1/model", headers=headers, timeout=START_TIMEOUT_S)
    model = answer.raise_for_status().json()
    return Address(url, model["zmq_endpoint"])


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while httpx.get(f"{url}/readyz", timeout=START_TIMEOUT_S).status_code != 200:
        assert time.monotonic() < deadline, "the server never became ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def run_server() -> Callable[..., Any]:
    """A context manager that serves settings in this process and yields the address."""
    return serving


@pytest.fixture(scope="session")
def server(make_settings: Callable[..., Settings]) -> Iterator[Address]:
    """A fast server in this process that the tests of this package share."""
    with serving(make_settings(max_sessions=4096)) as address:  # nobody here deletes what it made
        yield address


@pytest.fixture(scope="session")
def slow_server(make_settings: Callable[..., Settings]) -> Iterator[Address]:
    """A server whose every plan takes half a second."""
    endless = {"icem": {"uniform_candidates": 200_000}}
    with serving(make_settings(planners=endless, deadline_ms=500)) as address:
        yield address


class ServerProcess:
    """`uvicorn planner_server.app:app` as a user starts it, configured by the environment."""

    def __init__(self, model: Path, arguments: list[str], variables: dict[str, str]) -> None:
        self.log: list[str] = []
        defaults = {"PLANNER_MODEL": str(model), "PLANNER_ZMQ_ENDPOINT": "tcp://127.0.0.1:*"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "planner_server.app:app", "--port", "0", *arguments],
            env=environment(**(defaults | variables)),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._token = (
            SecretStr(variables["PLANNER_TOKEN"]) if "PLANNER_TOKEN" in variables else None
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := re.search(r"running on (http://\S+)", "".join(self.log))) is None:
            assert self.process.poll() is None, "the server ended: " + "".join(self.log)
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        self.address = _describe(found[1].replace("0.0.0.0", "127.0.0.1"), self._token)

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)


@pytest.fixture
def start_server(model_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start server processes that end with the test."""
    running: list[ServerProcess] = []

    def start(*arguments: str, **variables: str) -> ServerProcess:
        running.append(ServerProcess(model_dir, list(arguments), variables))
        running[-1].wait_until_ready()  # where that fails, it ends with the test all the same
        return running[-1]

    yield start
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(30)
        if server.process.stderr is not None:
            server._reader.join(5)
            server.process.stderr.close()


@pytest.fixture(scope="session")
def free_endpoint() -> Callable[[], str]:
    """An endpoint that is free now, for servers that must come back to the same one."""

    def find() -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    return find


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without its own settings of the server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PLANNER_")}
    # What a server keeps for the next one must not meet the next test.
    kept["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="planner-state-")
    return {**kept, "OMP_NUM_THREADS": "1", **variables}


@pytest.fixture(scope="session")
def clean_environment() -> Callable[..., dict[str, str]]:
    return environment


@pytest.fixture
def robots() -> Iterator[Callable[[str], Robot]]:
    """Connect robots that are closed after the test."""
    open_robots: list[Robot] = []

    def connect(endpoint: str) -> Robot:
        open_robots.append(Robot(endpoint))
        return open_robots[-1]

    yield connect
    for robot in open_robots:
        robot.close()


@pytest.fixture(scope="session")
def frame() -> NDArray[np.uint8]:
    """A colourful frame, uint8 RGB [48, 48, 3]."""
    return np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def goal_png(frame: NDArray[np.uint8]) -> bytes:
    return png(np.ascontiguousarray(frame[::-1]))


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode uint8 RGB as a PNG file."""
    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


@pytest.fixture(scope="session")
def encode_png() -> Callable[[NDArray[np.uint8]], bytes]:
    return png


@pytest.fixture(scope="session")
def observation(frame: NDArray[np.uint8]) -> Callable[..., Observe]:
    """Observations of a session, with what the test wants to be different."""

    def make(session: str, seq: int = 0, **changes: Any) -> Observe:
        fields: dict[str, Any] = {
            "t_capture": 0.0,
            "frame": frame,
            "state": np.array(POSE),
            "goal_index": 0,
        }
        return Observe(session=session, seq=seq, **(fields | changes))

    return make


@pytest.fixture(scope="session")
def pose() -> list[float]:
    return list(POSE)


@pytest.fixture
def session_with_goal(goal_png: bytes) -> Callable[..., str]:
    """Create a session on a server, with its own planning options if any, and give it one goal."""

    def create(address: Address, **options: Any) -> str:
        with address.http() as http:
            made = http.post("/v1/sessions", json=options or None).raise_for_status()
            session = str(made.json()["id"])
            kind = {"Content-Type": "image/png"}
            answer = http.put(f"/v1/sessions/{session}/goals", content=goal_png, headers=kind)
            answer.raise_for_status()
        return session

    return create


def postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of these tests' own, on a free port of the loopback interface."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; apt-get install postgresql")
    # Not below pytest's own folder, which the server's user may not enter.
    with tempfile.TemporaryDirectory(
        prefix="planner-postgres-", ignore_cleanup_errors=True
    ) as name:
        yield from run_postgres(programs, Path(name))


def run_postgres(programs: Path, folder: Path) -> Iterator[str]:
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
    data = folder / "data"
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": folder,
    }
    initdb = [programs / "initdb", "-D", data, "-U", "planner", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, **quiet, **owner)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        programs / "postgres",
        "-D",
        data,
        "-p",
        str(port),
        "-k",
        folder,
        "-F",
        "-h",
        "127.0.0.1",
    ]
    with subprocess.Popen(command, **quiet, **owner) as server:
        try:
            ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
            deadline = time.monotonic() + 60
            while subprocess.run(ready, **quiet, check=False).returncode:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)
            yield f"postgresql+psycopg://planner@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)
