"""`robot-client home-gripper` with a Franka Hand: the simulated robot's, and one that is interrupted."""

from types import SimpleNamespace
from typing import Any

import pytest

from robot_client import cli
from robot_client.arms import gripper

pytest.importorskip("franky_sim")


def test_the_hand_is_homed(robot_host: str) -> None:
    assert cli.main(["home-gripper", "--host", robot_host]) == cli.DONE


def test_ctrl_c_is_heard_while_the_hand_homes_itself_to_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[float] = []

    def wait(timeout_s: float) -> bool:
        waited.append(timeout_s)
        if len(waited) == 3:
            raise KeyboardInterrupt
        return len(waited) > 3

    hand: Any = SimpleNamespace(homing_async=lambda: SimpleNamespace(wait=wait, get=lambda: True))
    monkeypatch.setattr(gripper, "franky", SimpleNamespace(Gripper=lambda host: hand))
    assert cli.main(["home-gripper", "--host", "172.16.0.2"]) == cli.INTERRUPTED
    assert max(waited[:3]) < 0.1
    assert len(waited) == 4
    assert "keep away from its fingers" in caplog.text
