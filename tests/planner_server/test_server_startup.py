"""The service as a process: how it starts, and how it says that it cannot."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq

import planner_server.app
from planner_server.app import create_app
from planner_server.errors import StartupError
from planner_server.store.location import Location
from planner_server.zmq_door import ZmqDoor

COMMAND = [sys.executable, "-m", "uvicorn", "planner_server.app:app", "--port", "0"]


def start(environment: dict[str, str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        COMMAND, env={**environment, **variables}, stderr=subprocess.PIPE, text=True
    )


def test_a_server_that_cannot_start_ends_with_one_clear_line(
    clean_environment: Callable[..., dict[str, str]], model_dir: Path, tmp_path: Path
) -> None:
    environment = clean_environment(PLANNER_ZMQ_ENDPOINT="tcp://127.0.0.1:*")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        taken = f"tcp://127.0.0.1:{port}"
        model = str(model_dir)
        cases = {
            "make demo-model": start(environment, PLANNER_MODEL=str(tmp_path / "none")),
            f"cannot listen for robots on {taken}": start(
                environment, PLANNER_MODEL=model, PLANNER_ZMQ_ENDPOINT=taken
            ),
        }
        for message, process in cases.items():
            _, stderr = process.communicate(timeout=60)
            assert process.returncode != 0
            assert message in stderr
            assert "Traceback" not in stderr, stderr


def test_an_end_that_fails_halfway_still_saves_and_frees_the_rest(
    make_settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: ZmqDoor) -> None:
        raise RuntimeError("no route")

    monkeypatch.setattr(ZmqDoor, "announce_end", fail)
    settings = make_settings(data_dir=tmp_path)
    app = create_app(settings)
    others = set(threading.enumerate())  # of servers that other tests share

    async def run() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(RuntimeError, match="no route"):
        asyncio.run(run())
    left = set(threading.enumerate()) - others
    assert "planning-worker" not in [thread.name for thread in left]
    Location(settings).release()  # the folder is free again
    with contextlib.closing(sqlite3.connect(tmp_path / "planner.db")) as database:
        kinds = [kind for (kind,) in database.execute("SELECT kind FROM events")]
    assert kinds == ["server_started", "server_stopped"]


def test_bad_settings_end_the_program_with_their_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("devise: cpu\n")
    monkeypatch.setenv("PLANNER_CONFIG", str(path))
    with pytest.raises(SystemExit, match="devise: Extra inputs are not permitted"):
        _ = planner_server.app.app


def test_the_documented_command_serves_health_and_model(start_server: Callable[..., Any]) -> None:
    url = start_server().address.url
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/v1/model").json()["name"] == "tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda:77"}, "cuda"),
        ({"device": "toaster"}, "toaster"),
        ({"zmq_endpoint": "tcp://no.such.interface.invalid:1", "token": "t"}, "cannot listen"),
        ({"model": Path(__file__)}, "cannot be loaded"),
    ],
)
def test_every_reason_not_to_start_is_a_startup_error(
    make_settings: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    app = create_app(make_settings(**change))

    async def run() -> None:
        async with app.router.lifespan_context(app):
            pytest.fail("it started")

    with pytest.raises(StartupError, match=message):
        asyncio.run(run())
