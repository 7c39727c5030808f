"""The latency benchmark as a person runs it, with a model of a few thousand weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from models.checkpoint import save_world_model
from models.config import tiny
from models.world_model import WorldModel

REPOSITORY = Path(__file__).resolve().parents[2]


def measure(model: Path, output: Path) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PLANNER_")}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.latency",
            "--quick",
            "--model",
            model,
            "--output",
            output,
        ],
        check=False,
        cwd=REPOSITORY,
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_every_latency_is_printed_and_written(tmp_path: Path) -> None:
    save_world_model(WorldModel(tiny()), tmp_path / "tiny")
    done = measure(tmp_path / "tiny", tmp_path / "latency.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "latency.json").read_text())
    assert document["versions"]["torch"] == torch.__version__
    assert document["model"]["name"] == "tiny"
    rows = document["rows"]
    assert document["baseline"] in {row["name"] for row in rows}
    for row in rows:
        assert row["name"] in done.stdout
        assert len(row["samples_ms"]) == row["samples"] > 0
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    (whole,) = (row for row in rows if row["name"].startswith("control loop"))
    assert whole["p50_ms"] > 1000  # the model's control period and the plan before it


def test_a_missing_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    done = measure(tmp_path / "none", tmp_path / "latency.json")
    assert done.returncode == 2
    assert "make demo-model" in done.stderr
    assert "Traceback" not in done.stderr
