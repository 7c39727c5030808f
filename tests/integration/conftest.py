"""World models for whole-chain tests: one of random weights, and the shipped one."""

from pathlib import Path

import pytest

from models import config
from models.checkpoint import save_world_model
from models.world_model import WorldModel

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights; its plans lead nowhere in particular, but they are plans."""
    folder = tmp_path_factory.mktemp("tiny")
    save_world_model(WorldModel(config.tiny()), folder)
    return folder


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    folder = REPOSITORY / "models" / "shipped"
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no shipped model in {folder}")
    return folder
