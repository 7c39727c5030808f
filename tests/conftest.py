"""Fixtures that several packages' tests share."""

import os
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def _an_ordinary_thread() -> Iterator[None]:
    """Give the thread of the tests its ordinary priority back.

    libfranka makes the thread that moves an arm a real-time one, where it may. Whatever a later test starts from it,
    such as a browser, would be real-time too, and one busy loop in there would leave no time to anything else.
    """
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
