"""Small made-up episodes, and data sets made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trajectories.cameras import ArrayCamera
from trajectories.droid_raw_writer import write_episode
from trajectories.episode import Episode, Provenance

SIZE = (48, 64)
FPS = 5.0


def make(rows=12, seed=0, views=("left", "wrist"), **changes) -> Episode:
    """An episode whose frames tell their row: a bright bar moves over a noisy ground."""
    rng = np.random.default_rng(seed)
    start = np.array([0.4, 0, 0.3, 3.0, 0.1, 0.2, 0.5])
    states = start + np.cumsum(rng.normal(0, 0.01, (rows, 7)), axis=0)
    frames = np.full((rows, *SIZE, 3), 40 + 10 * seed, np.uint8)
    for row in range(rows):
        left = 2 + 4 * (row % 14)
        frames[row, 8:40, left : left + 6] = (230, 60 + 10 * (row % 10), 120)
    content = dict(
        name=f"episode-{seed}",
        states=states,
        times_s=np.arange(rows) / FPS,
        cameras={view: ArrayCamera(frames) for view in views},
        clock="measured",
        provenance=Provenance(
            "droid_raw", "made up", {"uuid": f"LAB+{seed:02d}", "lab": "LAB", "date": "2024-05-01"}
        ),
        task=f"task {seed}",
        success=seed % 2 == 0,
        extrinsics={"left": np.tile([0.5, 0.4, 0.6, 1.0, 0.0, -2.0], (rows, 1))},
        signals={
            "action/cartesian_position": rng.random((rows, 6)),
            "action/gripper_position": rng.random(rows).astype(np.float32),
            "observation/robot_state/joint_positions": rng.random((rows, 7)),
            "observation/controller_info/movement_enabled": np.ones(rows, bool),
            "planner/evaluations": np.arange(rows),
        },
    )
    return Episode(**(content | changes))


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    return make


@pytest.fixture
def raw_tree(tmp_path) -> Path:
    """A raw DROID tree of three episodes."""
    root = tmp_path / "droid"
    for seed in range(3):
        episode = make(rows=10 + seed, seed=seed)
        write_episode(episode, root / "LAB" / "success" / "2024-05-01" / f"run_{seed}")
    return root


@pytest.fixture
def raw_folder(raw_tree) -> Path:
    return raw_tree / "LAB" / "success" / "2024-05-01" / "run_0"
