"""Several replicas behind Ray Serve, on this machine's CPUs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from robot_client.protocol import Act, Observe, Pause

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).resolve().parents[2]
AFFINITY = "serve_multiplexed_model_id"
TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def deployment(
    postgres_url: str,
    model_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    clean_environment: Callable[..., dict[str, str]],
    free_endpoint: Callable[[], str],
) -> Iterator[str]:
    """`serve run` with the configuration of the repository, on a free port; yields its URL."""
    config = yaml.safe_load((REPOSITORY / "configs/serve/cpu.yaml").read_text())
    port = int(free_endpoint().rpartition(":")[2])
    config["http_options"]["port"] = port
    folder = tmp_path_factory.mktemp("ray")
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    environment = clean_environment(
        PLANNER_MODEL=str(model_dir),
        PLANNER_DATABASE_URL=postgres_url,
        PLANNER_DEFAULT_PLANNER="icem",
        PYTHONPATH=str(REPOSITORY),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_DISABLE_IMPORT_WARNING="1",
    )
    program = Path(sys.executable).parent / "serve"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "run", str(folder / "serve.yaml")],
            env=environment,
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for_replicas(url, 2, process, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                stop = Path(sys.executable).parent / "ray"
                subprocess.run([stop, "stop", "--force"], capture_output=True, check=False)


def wait_for_replicas(url: str, count: int, process: Any, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    seen: set[str] = set()
    while len(seen) < count:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, f"replicas seen: {seen}\n" + log.read_text()[-4000:]
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5)
            if answer.status_code == 200:
                seen.add(answer.headers["X-Replica"])
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


def test_sessions_stay_with_their_replica_and_are_known_to_all(
    deployment: str,
    goal_png: bytes,
    robots: Callable[[str], Any],
    observation: Callable[..., Observe],
    encode_png: Callable[[Any], bytes],
    frame: Any,
    pose: list[float],
) -> None:
    with httpx.Client(base_url=deployment, timeout=60) as http:
        made = http.post("/v1/sessions").raise_for_status()
        session, endpoint = made.json()["id"], made.json()["zmq_endpoint"]
        headers = {AFFINITY: session, "Content-Type": "image/png"}
        path = f"/v1/sessions/{session}"
        http.put(f"{path}/goals", content=goal_png, headers=headers).raise_for_status()
        replicas = []
        for _ in range(20):
            answer = http.post(
                f"{path}/plan",
                files={"frame": encode_png(frame)},
                data={"state": json.dumps(pose)},
                headers={AFFINITY: session},
            ).raise_for_status()
            replicas.append(answer.headers["X-Replica"])
        assert len(set(replicas[5:])) == 1, replicas
        # Without the header any replica answers, and all of them know the session.
        without = [http.get(path).raise_for_status().headers["X-Replica"] for _ in range(40)]
        assert len(set(without)) >= 2
        # Robots connect to the replica that made their session.
        robot = robots(endpoint)
        assert robot.greet(session).goals == 1
        assert isinstance(robot.ask(observation(session, seq=100)), Act)
        http.post(f"{path}/pause").raise_for_status()  # wherever it arrives
        assert isinstance(robot.receive(), Pause)


def test_a_replica_that_dies_is_replaced(deployment: str, model_dir: Path) -> None:
    before = replicas_of(deployment, 2)
    os.kill(replica_pid(model_dir), signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while len(found := replicas_of(deployment, 2)) < 2 or found == before:
        assert time.monotonic() < deadline, (before, found)


def replica_pid(model: Path) -> int:
    """Return the process id of a replica that serves this test's own model."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes()
        except OSError:  # gone meanwhile
            continue
        if title.startswith(b"ray::ServeReplica") and str(model).encode() in variables:
            return int(folder.name)
    raise AssertionError("no replica found")


def replicas_of(url: str, count: int) -> set[str]:
    seen: set[str] = set()
    deadline = time.monotonic() + 20
    while len(seen) < count and time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/healthz", timeout=5)
            if answer.status_code == 200:
                seen.add(answer.headers["X-Replica"])
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    return seen
