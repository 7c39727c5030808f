"""The network itself fails, below ZMQ: packets are lost and late, and the cable is pulled."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from robot_client import cli
from robot_client.report import read_episode
from tests.integration.scripted_server import PERIOD_S
from trajectories.dataset import open_episode

REPOSITORY = Path(__file__).parents[2]
ALONE = ["unshare", "--user", "--map-root-user", "--net"]


def needs(*command: str) -> None:
    """Skip where this machine does not let us try `command` in a network of our own."""
    try:
        tried = subprocess.run([*ALONE, *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no unshare")
    if tried.returncode:
        pytest.skip(f"no {command[0]} in a network namespace here: {tried.stderr.strip()[:120]}")


def run(fault: str, runs: Path) -> tuple[dict[str, Any], Path]:
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "tests.integration.two_machines", fault, str(runs)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = runs.iterdir()
    return json.loads(done.stdout.splitlines()[-1]), folder


def check_order(lines: list[dict[str, Any]]) -> None:
    seqs = [line["seq"] for line in lines if line["is_executed"]]
    assert seqs == sorted(set(seqs))  # never twice, never backwards


def check_readable(folder: Path) -> None:
    with open_episode(folder) as episode:
        assert len(episode) == len(episode.camera("left")) >= 2


def test_with_the_cable_pulled_the_arm_holds_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    needs("ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
    result, folder = run("cut", tmp_path / "runs")
    assert result["status"] == cli.DONE, result["output"]
    lines = read_episode(folder)
    check_order(lines)
    assert sum(line["is_executed"] for line in lines) >= 6
    cut, back = map(datetime.fromisoformat, result["times"])
    # What was under way when it happened may still end: one motion, and the plan already here.
    blind = [
        line
        for line in lines
        if cut + timedelta(seconds=4 * PERIOD_S) < datetime.fromisoformat(line["time"]) < back
    ]
    assert not any(line["is_executed"] for line in blind)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    held = [event for event in events if event["kind"] in ("hold", "cut short")]
    assert any(cut < datetime.fromisoformat(event["time"]) < back for event in held)
    check_readable(folder)


@pytest.mark.slow
def test_with_packets_lost_and_late_nothing_stale_is_executed(tmp_path: Path) -> None:
    needs("tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "10%")
    result, folder = run("loss", tmp_path / "runs")
    assert result["status"] in (cli.DONE, cli.NOT_ACHIEVED), result["output"]
    lines = read_episode(folder)
    check_order(lines)
    assert any(line["is_executed"] for line in lines)
    check_readable(folder)
