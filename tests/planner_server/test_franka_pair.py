"""Two real frames of one Franka move: from the first to the second, over HTTP and over ZMQ."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_client.protocol import Act, Observe


@pytest.fixture(scope="module")
def move(shared_dir: Path) -> dict[str, Any]:
    """Frames uint8 [2, 256, 256, 3] and states [2, 7] of the move."""
    with np.load(shared_dir / "data" / "franka_example_traj.npz") as data:
        return {"frames": data["observations"][0], "states": data["states"][0].astype(np.float64)}


def test_http_and_zmq_plan_the_same_real_move(
    start_server: Callable[..., Any],
    robots: Callable[[str], Any],
    encode_png: Callable[[Any], bytes],
    move: dict[str, Any],
) -> None:
    (now, goal), state = move["frames"], move["states"][0]
    server = start_server().address
    with server.http() as http:
        files = {"frame": encode_png(now), "goal": encode_png(goal)}
        data = {"state": json.dumps(state.tolist())}
        single = http.post("/v1/plan", data=data, files=files).raise_for_status().json()
        session = http.post("/v1/sessions").json()["id"]
        http.put(
            f"/v1/sessions/{session}/goals", files=[("images", files["goal"])]
        ).raise_for_status()
    robot = robots(server.zmq)
    robot.greet(session)
    act = robot.ask(Observe(session=session, seq=0, t_capture=0.0, frame=now, state=state))
    assert isinstance(act, Act), act
    np.testing.assert_allclose(act.actions, single["actions"], atol=1e-6)
    assert act.energy == pytest.approx(single["energy"], rel=1e-4)
    assert act.energy_now > 0
    assert act.energy <= single["energy_do_nothing"]
    np.testing.assert_allclose(
        act.predicted_states[0, :3], state[:3] + act.actions[0, :3], atol=1e-5
    )
    assert not act.warnings
