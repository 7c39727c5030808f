"""Two processes over gloo learn, cache and judge what one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.__main__ import main
from training.log import read_table
from training.probes.results import read_results

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.timeout(600)  # two processes import torch; a shared machine is slow

# All of them in one pair of processes: importing torch costs more than training.
SCRIPT = """
import os, sys
from training.__main__ import main
recipe, neighbours, output, *ports = sys.argv[1:]
ways = (("plain", recipe, []), ("cached", recipe, [f"data.cache_path={output}/cache"]),
        ("knn", neighbours, []))
for port, (name, config, changes) in zip(ports, ways):
    os.environ["MASTER_PORT"] = port
    words = [word for change in changes for word in ("--set", change)]
    assert main(["probe", "--config", config, "--output", f"{output}/{name}", *words]) == 0
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_processes_find_what_one_finds(probe_values, write_recipe, tmp_path, make):
    make.list(tmp_path, "train", 8, bad=(3,))
    make.list(tmp_path, "validation", 5, bad=(2,))  # no even share
    data = make.data(tmp_path, draws=2, max_unreadable=0.5)
    recipe = write_recipe(probe_values(data=data))
    knn = probe_values(data=data, probe=dict(kind="knn", neighbours=[1, 3]), heads=[], steps=0)
    neighbours = write_recipe(knn, "knn.yaml")
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", SCRIPT, recipe, neighbours, str(tmp_path), *free_ports(3)]
    processes = [
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for name, config in (("one", recipe), ("one-knn", neighbours)):
            assert main(["probe", "--config", config, "--output", str(tmp_path / name)]) == 0
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    check_runs(tmp_path)


def check_runs(folder):
    one = load_file(folder / "one" / "model.safetensors")
    losses = [row["loss"] for row in read_table(folder / "one" / "log.csv")]
    for name in ("plain", "cached"):
        two = load_file(folder / name / "model.safetensors")
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-3, atol=1e-4)
        rows = read_table(folder / name / "log.csv")
        assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
        assert read_results(folder / name) == read_results(folder / "one")
    assert read_results(folder / "knn") == read_results(folder / "one-knn")
    assert len(list((folder / "cache" / "train").glob("shard-*"))) == 2  # each wrote its own
    assert len(read_results(folder / "one")["unreadable"]) == 1
