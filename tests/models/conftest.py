"""Reference vectors, and the tiny networks that they were computed with."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import load_world_model
from models.config import ACPredictorConfig, EncoderConfig, WorldModelConfig, tiny
from models.world_model import WorldModel

Vectors = dict[str, Any]


def _load(path: Path) -> Vectors:
    vectors: Vectors = torch.load(path, weights_only=True)
    return vectors


@pytest.fixture(scope="session")
def golden_dir(shared_dir: Path) -> Path:
    return shared_dir / "golden"


@pytest.fixture(scope="session")
def encoder_vectors(golden_dir: Path) -> Vectors:
    return _load(golden_dir / "encoder.pt")


@pytest.fixture(scope="session")
def ac_vectors(golden_dir: Path) -> Vectors:
    return _load(golden_dir / "ac_predictor.pt")


@pytest.fixture(scope="session")
def mask_vectors(golden_dir: Path) -> Vectors:
    return _load(golden_dir / "mask_predictor.pt")


@pytest.fixture(scope="session")
def pose_vectors(golden_dir: Path) -> Vectors:
    return _load(golden_dir / "poses.pt")


@pytest.fixture(scope="session")
def golden_config() -> WorldModelConfig:
    return WorldModelConfig(
        name="golden",
        encoder=EncoderConfig(
            img_size=(32, 32),
            patch_size=8,
            num_frames=8,
            embed_dim=128,
            depth=2,
            num_heads=2,
            mlp_ratio=48 / 11,
        ),
        predictor=ACPredictorConfig(
            grid_size=(4, 4), embed_dim=128, predictor_embed_dim=192, depth=2, num_heads=3
        ),
        control_period_s=1.0,
        max_step_m=0.075,
    )


@pytest.fixture(scope="session")
def golden_model(golden_dir: Path, golden_config: WorldModelConfig) -> WorldModel:
    """The reference weights, read by our own loader."""
    return load_world_model(golden_dir / "ac_checkpoint.pt", config=golden_config)


@pytest.fixture
def tiny_model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny()).eval().requires_grad_(requires_grad=False)
