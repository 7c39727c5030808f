"""Two processes over gloo do what one does, copied or sharded, and their checkpoints are anybody's."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models.checkpoint import load_encoder
from training.__main__ import main
from training.checkpoints import read_networks
from training.log import read_events, read_table

REPOSITORY = Path(__file__).parents[2]
STRATEGIES = ("ddp", "fsdp")

pytestmark = pytest.mark.timeout(600)  # five processes import torch; a shared machine is slow

# All of them in one pair of processes: importing torch costs more than training.
SCRIPT = """
import os, sys
from training.__main__ import main
recipe, output, *ports = sys.argv[1:]
low = ["run.precision=bf16", "run.checkpoint_activations=true"]
for name, port, extra in zip(("ddp", "fsdp", "fsdp-bf16"), ports, ([], [], low)):
    os.environ["MASTER_PORT"] = port
    arguments = ["pretrain", "--config", recipe, "--output", f"{output}/{name}"]
    changes = [f"run.strategy={name[:4].rstrip('-')}", *extra]
    assert main([*arguments, *(word for change in changes for word in ("--set", change))]) == 0
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_shards, pretrain_values):
    """The same recipe in one process, and in two with both strategies."""
    folder = tmp_path_factory.mktemp("runs")
    shards = make_shards(folder / "episodes")
    (folder / "list.csv").write_text("missing.mp4 0\n")
    values = pretrain_values(shards)
    values["data"]["missing"] = dict(
        kind="csv", path=str(folder / "list.csv"), frames=4, weight=0.1
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    ports = free_ports(3)
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment["OMP_NUM_THREADS"] = "1"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder / "recipe.yaml"), str(folder), *ports],
            cwd=REPOSITORY,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        one = ["pretrain", "--config", str(folder / "recipe.yaml")]
        assert main([*one, "--output", str(folder / "one")]) == 0
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return folder


def losses(folder):
    return [row["loss"] for row in read_table(folder / "log.csv")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_learn_what_one_learns(runs, strategy):
    assert losses(runs / strategy) == pytest.approx(losses(runs / "one"), rel=1e-4)
    one = load_file(runs / "one" / "model.safetensors")
    two = load_file(runs / strategy / "model.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-4)


def test_sharded_training_in_bfloat16_stays_near(runs):
    """Parameters travel in bfloat16 and activations are recomputed; masters are float32."""
    assert losses(runs / "fsdp-bf16") == pytest.approx(losses(runs / "one"), rel=2e-2)
    stored = read_networks(runs / "fsdp-bf16" / "checkpoints" / "step-00000004")
    assert {value.dtype for value in stored.values()} == {torch.float32}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_shared_run_leaves_an_encoder_that_loads(runs, strategy):
    encoder = load_encoder(runs / strategy)
    assert encoder(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 16, 48)


def test_every_process_reports_what_it_skipped(runs):
    def skipped(folder):
        events = read_events(folder / "log.jsonl")
        return sorted(event["text"] for event in events if event["kind"] == "warning")

    assert skipped(runs / "one")
    assert skipped(runs / "ddp") == skipped(runs / "one")


def test_a_sharded_checkpoint_is_read_by_one_process(runs):
    sharded = read_networks(runs / "fsdp" / "checkpoints" / "step-00000004")
    whole = read_networks(runs / "one" / "checkpoints" / "step-00000004")
    assert sharded.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(sharded[name], whole[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_process_continues_what_two_began(runs, strategy, tmp_path):
    shutil.copytree(runs / strategy, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    arguments = ["pretrain", "--config", str(runs / "recipe.yaml")]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(runs / "one"), rel=1e-4)
