"""Fixtures that several packages' tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference vectors and real recordings that live beside the repository, never in it."""
    path = Path(os.environ.get("PLANNER_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "golden" / "index.json").is_file():
        pytest.skip(f"no reference data in {path}; set PLANNER_SHARED to where it lies")
    return path
