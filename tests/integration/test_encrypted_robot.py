"""A robot with keys, and robots with wrong ones, at the door of a real server that wants encryption."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq.auth

from robot_client import cli
from robot_client.errors import EncryptionError, ServerUnreachableError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.rest import RestClient
from robot_client.server_process import ServerProcess
from tests.robot_client.conftest import StandIn


@dataclass(frozen=True)
class Door:
    """A server that lets in the keys of one folder, and a robot whose key lies there."""

    url: str
    robot: ServerAddress
    keys: Path


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("encrypted")
    keys, clients = folder / "keys", folder / "clients"
    for each in (keys, clients):
        each.mkdir()
    for name in ("server", "robot", "stranger", "impostor"):
        zmq.auth.create_certificates(str(keys), name)
    (clients / "robot.key").write_bytes((keys / "robot.key").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANNER_CURVE_SECRET_KEY", str(keys / "server.key_secret"))
        patch.setenv("PLANNER_CURVE_CLIENTS", str(clients))
        server = ServerProcess(folder, tiny_model)
    with server:
        url = server.wait()
        endpoint = RestClient(url).model()["zmq_endpoint"]
        robot = ServerAddress(
            endpoint, own_key=keys / "robot.key_secret", server_key=keys / "server.key"
        )
        yield Door(url, robot, keys)


def refusal(address: ServerAddress) -> str:
    with PlannerClient(address) as client, pytest.raises(EncryptionError) as caught:
        client.connect(timeout_s=20.0)
    return str(caught.value)


def test_a_robot_with_the_right_keys_does_a_whole_run(door: Door, tmp_path: Path) -> None:
    task, goal = tmp_path / "task.yaml", tmp_path / "goal.png"
    task.write_text(
        "name: short\ndescription: d\nsettled_step_m: 0.0\nsub_goals: [{name: a, max_steps: 2}]\n"
    )
    cv2.imwrite(str(goal), np.full((64, 64, 3), 90, np.uint8))
    arguments = ["run", "--task", str(task), "--goal", str(goal), "--arm", "dummy", "--unattended"]
    arguments += ["--server", door.robot.endpoint, "--http", door.url, "--runs", str(tmp_path)]
    arguments += ["--key", str(door.robot.own_key), "--server-key", str(door.robot.server_key)]
    assert cli.main(arguments) == cli.DONE


def test_a_robot_that_is_not_on_the_list_is_told_where_its_key_belongs(door: Door) -> None:
    said = refusal(replace(door.robot, own_key=door.keys / "stranger.key_secret"))
    assert "does not know this robot's key" in said
    assert "stranger" in said


def test_a_server_with_another_key_than_expected_is_not_believed(door: Door) -> None:
    said = refusal(replace(door.robot, server_key=door.keys / "impostor.key"))
    assert "does not prove to be the one in" in said
    assert "impostor.key" in said


def test_a_robot_without_keys_is_told_to_bring_some(door: Door) -> None:
    assert "--server-key" in refusal(ServerAddress(door.robot.endpoint))


def test_a_robot_with_keys_is_told_that_the_server_has_none(
    door: Door,
) -> None:
    with closing(StandIn()) as plain:
        said = refusal(replace(door.robot, endpoint=plain.endpoint))
    assert "without encryption" in said


def test_nobody_there_is_no_matter_of_keys(door: Door) -> None:
    address = replace(door.robot, endpoint="tcp://127.0.0.1:1")
    with (
        PlannerClient(address) as client,
        pytest.raises(ServerUnreachableError, match="nobody") as caught,
    ):
        client.connect(timeout_s=0.5)
    assert not isinstance(caught.value, EncryptionError)


@pytest.mark.parametrize(
    ("own", "said"), [("missing.key_secret", "no certificates"), ("robot.key", "no secret key")]
)
def test_a_key_that_cannot_be_used_is_told_before_anything_is_sent(
    door: Door, own: str, said: str
) -> None:
    assert said in refusal(replace(door.robot, own_key=door.keys / own))
