"""Fixtures of the simulator's tests."""

import time

import pytest
import zmq

import simulation  # noqa: F401 - selects the OpenGL back end before anything imports mujoco
from simulation.camera_stream import bind
from simulation.errors import ServerStartError
from simulation.stepper import OfflineWorkcell
from simulation.variation import WorkcellVariation


@pytest.fixture
def workcell() -> OfflineWorkcell:
    """The plain workcell with a cube, not yet reset."""
    return OfflineWorkcell(WorkcellVariation())


@pytest.fixture
def wait_until_free():
    """Wait for an endpoint that was closed: ZMQ lets go of it in a thread of its own."""

    def wait(endpoint: str, within_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                bind(zmq.PUB, endpoint).close(linger=0)
            except ServerStartError:
                assert time.monotonic() < deadline_s, f"{endpoint} is still taken"
                time.sleep(0.05)
            else:
                return

    return wait
