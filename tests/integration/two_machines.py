"""A robot and its planner server on two machines with a cable between them, which can be pulled.

Two network namespaces joined by a pair of virtual interfaces, made without any right on this machine:

    unshare --user --map-root-user --net python -m tests.integration.two_machines FAULT RUNS

`cut` pulls the cable after two steps and plugs it in again later; `loss` loses 10 % of the packets and
delays as many by 500 ms. The last line is a JSON object: exit status, output, and the times of the cut.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from robot_client.report import read_episode

ROBOT, SERVER = "10.77.0.1", "10.77.0.2"
CUT_S = 3.0
TIMEOUT_S = 180.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def server_machine() -> Iterator[str]:
    """Another machine with a planner server; endpoint and URL as the robot sees them."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "robot", "type", "veth", "peer", "name", "server")
    command = [sys.executable, "-m", "tests.integration.scripted_server", "--listen", "0.0.0.0"]
    process = subprocess.Popen(
        ["unshare", "--net", *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        ports = [each.rsplit(":", 1)[1] for each in process.stdout.readline().split()]
        ip("link", "set", "server", "netns", str(process.pid))
        there = ["nsenter", "--target", str(process.pid), "--net", "ip"]
        for words in (
            ["addr", "add", f"{SERVER}/24", "dev", "server"],
            ["link", "set", "server", "up"],
        ):
            subprocess.run([*there, *words], check=True)
        ip("addr", "add", f"{ROBOT}/24", "dev", "robot")
        ip("link", "set", "robot", "up")
        yield f"tcp://{SERVER}:{ports[0]} http://{SERVER}:{ports[1]}"
    finally:
        process.kill()
        process.wait()


def steps_of(runs: Path) -> int:
    folders = [path.parent for path in runs.glob("*/episode.jsonl")]
    return sum(line["is_executed"] for line in read_episode(folders[0])) if folders else 0


def wait_for_steps(runs: Path, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while steps_of(runs) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} steps in {TIMEOUT_S:.0f} s")
        time.sleep(0.02)


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


def main() -> None:
    fault, runs = sys.argv[1], Path(sys.argv[2])
    task, goal = runs.with_suffix(".yaml"), runs.with_suffix(".png")
    task.write_text(
        "name: endless\ndescription: to and fro\nsettled_step_m: 0.0\n"
        "stop_after_missed: 120\nsub_goals: [{name: a, max_steps: 6}]\n"
    )
    cv2.imwrite(str(goal), np.full((64, 64, 3), 90, np.uint8))
    times: list[str] = []
    with server_machine() as where:
        endpoint, url = where.split()
        if fault == "loss":
            rule = "netem loss 10% delay 500ms reorder 90%"
            subprocess.run(f"tc qdisc add dev robot root {rule}".split(), check=True)
        command = [sys.executable, "-m", "robot_client", "run", "--arm", "dummy", "--unattended"]
        command += ["--task", str(task), "--goal", str(goal), "--runs", str(runs)]
        robot = subprocess.Popen(
            [*command, "--server", endpoint, "--http", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            if fault == "cut":
                wait_for_steps(runs, 2)
                times.append(now())
                ip("link", "set", "robot", "down")
                time.sleep(CUT_S)
                times.append(now())
                ip("link", "set", "robot", "up")
            output, _ = robot.communicate(timeout=TIMEOUT_S)
        finally:
            robot.kill()
    print(json.dumps({"status": robot.returncode, "output": output, "times": times}))


if __name__ == "__main__":
    main()
