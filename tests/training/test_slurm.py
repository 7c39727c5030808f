"""SLURM jobs: what is asked for, and that a job that must go is queued again and continues."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest
import yaml

from training.__main__ import main
from training.config import SlurmConfig
from training.log import read_table
from training.slurm import submit

pytest.importorskip("submitit")


@pytest.fixture
def recipe(tmp_path, shards, pretrain_values):
    slurm = dict(nodes=16, partition="learn", qos="high", requeues=3, timeout_min=60)
    values = pretrain_values(shards, steps=120, batch_size=4)
    values["run"] |= dict(slurm=slurm, save_every=120)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_job_asks_for_what_the_recipe_says(tmp_path, recipe, monkeypatch, capsys):
    """A stand-in for `sbatch` keeps the script that it is given."""
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 7'),
        ("srun", "exit 0"),
    ):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    arguments = ["pretrain", "--config", str(recipe), "--output", str(tmp_path / "run"), "--slurm"]
    assert main(arguments) == 0
    assert "submitted job 7" in capsys.readouterr().out
    script = (tmp_path / "script").read_text()
    for line in (
        "nodes=16",
        "ntasks-per-node=8",
        "partition=learn",
        "qos=high",
        "time=60",
        "signal=USR2",
        "gpus-per-node=8",
    ):
        assert f"#SBATCH --{line}" in script


def test_without_slurm_the_error_says_so(tmp_path, recipe, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["pretrain", "--config", str(recipe), "--output", str(tmp_path / "run"), "--slurm"]
    assert main(arguments) == 1
    assert "no SLURM on this machine" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_job_that_is_preempted_saves_and_is_queued_again(tmp_path, recipe):
    """Two tasks on this machine; submitit's local cluster plays SLURM."""
    config = SlurmConfig(tasks_per_node=2, gpus_per_node=0, timeout_min=5)
    folder = tmp_path / "run"
    arguments = ["pretrain", "--config", str(recipe), "--output", str(folder)]
    job = submit(arguments, folder, config, cluster="local")
    while not read_table(folder / "log.csv"):
        assert not job.done(), job.stderr()
        time.sleep(0.1)
    controller = int(job.job_id)
    tasks = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    for task in tasks:
        os.kill(int(task), signal.SIGUSR2)
    assert job.results() == [0, 0]
    rows = [row["step"] for row in read_table(folder / "log.csv")]
    assert rows == list(range(1, 121))
    assert len((folder / "launches.jsonl").read_text().splitlines()) == 2
