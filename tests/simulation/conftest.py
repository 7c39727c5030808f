"""Fixtures of the simulator's tests."""

import pytest

import simulation  # noqa: F401 - selects the OpenGL back end before anything imports mujoco
from simulation.stepper import OfflineWorkcell
from simulation.variation import WorkcellVariation


@pytest.fixture
def workcell() -> OfflineWorkcell:
    """The plain workcell with a cube, not yet reset."""
    return OfflineWorkcell(WorkcellVariation())
