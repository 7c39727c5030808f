"""The official library reads what we write. It lives in an environment of its own:

python -m venv /tmp/lerobot && /tmp/lerobot/bin/pip install lerobot
PLANNER_LEROBOT_PYTHON=/tmp/lerobot/bin/python pytest -m slow tests/trajectories
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from trajectories.dataset import open_dataset
from trajectories.lerobot.writer import LeRobotWriter

PROGRAM = Path(__file__).with_name("read_with_lerobot.py")


@pytest.fixture(scope="module")
def lerobot_python():
    python = os.environ.get("PLANNER_LEROBOT_PYTHON")
    if not python:
        pytest.skip("PLANNER_LEROBOT_PYTHON names no Python that has lerobot")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_the_official_library_reads_our_data_sets(tmp_path, shared_dir, lerobot_python, codec):
    raw = open_dataset(shared_dir / "data" / "droid_raw")
    for numbers in ([0, 1], [2, 3]):  # a second writer adds to the first one's data set
        with LeRobotWriter(tmp_path / "data", fps=5, codec=codec) as writer:
            for number in numbers:
                writer.add(raw.open(number))
    done = subprocess.run(
        [lerobot_python, PROGRAM, tmp_path / "data"],
        check=False,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert (seen["episodes"], seen["frames"], seen["fps"]) == (4, 287, 5)
    assert set(seen["cameras"]) <= set(seen["stats"])
    rows = iter(seen["rows"])
    for index, episode in enumerate(raw):
        frames = {
            "observation.images.exterior_1_left": episode.camera("left").frames(),
            "observation.images.exterior_2_left": episode.camera("right").frames(),
            "observation.images.wrist_left": episode.camera("wrist").frames(),
        }
        for state in episode.states:
            row = next(rows)
            assert (row["episode"], row["task"]) == (index, episode.task)
            np.testing.assert_allclose([*row["pose"], row["gripper"]], state, atol=1e-6)
            for name, stream in frames.items():
                assert abs(next(stream).mean() / 255 - row["means"][name]) < 0.02
