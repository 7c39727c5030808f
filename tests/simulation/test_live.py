"""The real-time workcell as its users meet it: a process, libfranka's protocol, two sockets."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from robot_client.arms.priority import restored
from robot_client.cameras.simulated import decode_frame
from robot_client.errors import RunError
from robot_client.supervisor import Supervisor
from simulation.camera_stream import bind
from simulation.errors import ServerStartError
from simulation.kinematics import flange_pose_at
from simulation.live import Endpoints, LiveWorkcell
from simulation.tasks import make_task
from trajectories.poses import euler_to_matrix

franky = pytest.importorskip("franky")

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.43.7"
START_TIMEOUT_S = 30.0


ANY_PORT = "tcp://127.0.0.1:*"


def _serve(*options, host=HOST):
    command = [sys.executable, "-m", "simulation", "serve", "--host", host, "--camera", ANY_PORT]
    return subprocess.Popen(
        [*command, "--supervisor", ANY_PORT, *options],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def live():
    """A running grasp task with a cube: (camera endpoint, supervisor client)."""
    process = _serve("--task", "grasp", "--seed", "3", "--object", "cube")
    try:
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready.get("event") == "ready", process.stderr.read()
        client = Supervisor(ready["supervisor"])
        yield ready["camera"], client
        client.ask("shutdown")
        client.close()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def robot(live):
    with restored():
        arm = franky.Robot(HOST, realtime_config=franky.RealtimeConfig.Ignore)
    arm.relative_dynamics_factor = 0.3
    return arm


@pytest.fixture
def camera(live):
    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.setsockopt(zmq.CONFLATE, 1)
    subscriber.connect(live[0])
    yield subscriber
    subscriber.close(linger=0)


def _newest_frame(camera, after_s=0.0):
    while camera.poll(5000):
        frame = decode_frame(camera.recv())
        if frame.t_capture >= after_s:
            return frame
    pytest.fail("the camera stream is silent")


def _flange(robot):
    state = robot.state
    return state.O_T_EE.matrix @ np.linalg.inv(state.F_T_EE.matrix)


def _go(robot, pose):
    flange = np.eye(4)
    flange[:3, :3], flange[:3, 3] = euler_to_matrix(pose[3:6]), pose[:3]
    target = franky.Affine(flange @ robot.state.F_T_EE.matrix)
    robot.move(franky.CartesianMotion(target))
    time.sleep(0.4)  # the servo settles


def test_the_arm_starts_at_the_tasks_start(live):
    task = make_task("grasp", 3, object_kind="cube")
    truth = live[1].ask("truth")
    np.testing.assert_allclose(truth["state"], task.start, atol=2e-3)
    assert not truth["is_success"]


def test_goal_images_are_those_of_the_task(live):
    cv2 = pytest.importorskip("cv2")
    task, sheet = make_task("grasp", 3, object_kind="cube"), live[1].ask("task")
    assert (sheet["name"], sheet["seed"]) == ("grasp", 3)
    for goal, sub_goal in zip(sheet["goals"], task.sub_goals, strict=True):
        image = cv2.imdecode(np.frombuffer(goal["png"], np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(image[..., ::-1], sub_goal.image)
        assert (goal["step_budget"], goal["gripper_rule"]) == (
            sub_goal.step_budget,
            sub_goal.gripper_rule,
        )


def test_a_move_over_libfranka_is_seen_by_the_camera_and_true_to_two_millimetres(
    live, robot, camera
):
    before = _newest_frame(camera)
    start = np.array(live[1].ask("truth")["state"])
    target = np.add(start, [0.0, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0])
    _go(robot, target)
    truth = np.array(live[1].ask("truth")["state"])
    assert np.linalg.norm(truth[:3] - target[:3]) < 2e-3
    flange = _flange(robot)
    assert np.linalg.norm(flange[:3, 3] - truth[:3]) < 2e-3
    np.testing.assert_allclose(flange[:3, :3], euler_to_matrix(truth[3:6]), atol=5e-3)
    after = _newest_frame(camera, time.monotonic())
    assert (before.frame != after.frame).any(axis=-1).sum() > 300
    assert time.monotonic() - after.t_capture < 0.5


def test_the_arm_reports_where_it_is_and_not_where_it_was_sent(robot):
    target = robot.state.O_T_EE.matrix.copy()
    target[2, 3] += 0.06
    robot.move(franky.CartesianMotion(franky.Affine(target)), asynchronous=True)
    lags = []
    for _ in range(30):
        state = robot.state
        lags.append(np.linalg.norm(state.O_T_EE_d.translation - state.O_T_EE.translation))
        time.sleep(0.01)
    robot.join_motion()
    assert max(lags) > 2e-3
    time.sleep(0.4)
    assert np.linalg.norm(robot.state.O_T_EE.translation - target[:3, 3]) < 2e-3


def test_the_gripper_lifts_the_cube_over_libfranka(live, robot):
    supervisor, gripper = live[1], franky.Gripper(HOST)
    cube = supervisor.ask("truth")["object_position_m"]
    _go(robot, flange_pose_at(np.add(cube, [0.0, 0.0, 0.12]), 0.0))
    _go(robot, flange_pose_at(cube, 0.0))
    assert gripper.grasp(0.0, 0.05, 40.0, epsilon_inner=0.08, epsilon_outer=0.08)
    _go(robot, flange_pose_at(np.add(cube, [0.0, 0.0, 0.12]), 0.0))
    report = supervisor.ask("truth")
    assert report["is_success"], report["reason"]
    assert gripper.width == pytest.approx(0.08 * (1.0 - report["state"][6]), abs=1e-3)


def test_physics_keeps_up_with_the_clock(live):
    time.sleep(1.5)
    assert live[1].ask("truth")["real_time_factor"] > 0.1  # the machine may be shared


def test_the_camera_port_answers_no_question_about_the_truth(live, camera):
    fields = msgpack.unpackb(camera.recv())
    assert not {"state", "object_position_m", "is_success"} & set(fields)
    nosy = Supervisor(live[0], timeout_s=0.3)
    with pytest.raises(RunError, match="does not answer"):
        nosy.ask("truth")
    nosy.close()


def test_a_second_simulator_on_the_same_address_is_refused_with_the_remedy(live):
    process = _serve()
    try:
        _, errors = process.communicate(timeout=START_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "--host 127.0.0.2" in errors


def test_with_host_auto_a_second_simulator_finds_an_address_of_its_own(live):
    process = _serve("--camera-yaw", "30", host="auto")
    try:
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready["robot"].startswith("127.0.0.")
        assert ready["camera"] != live[0]
        client = Supervisor(ready["supervisor"])
        client.ask("shutdown")
        client.close()
        assert process.wait(timeout=START_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_workcell_that_cannot_have_all_its_ports_keeps_none(wait_until_free):
    taken = bind(zmq.REP, ANY_PORT)
    supervisor = taken.getsockopt_string(zmq.LAST_ENDPOINT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        camera = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    task = make_task("reach", 0)
    for _ in range(2):  # were the arm's port kept, the second time would stumble over that one
        with pytest.raises(ServerStartError, match=supervisor):
            LiveWorkcell(task, Endpoints("127.0.43.9", camera, supervisor))
        wait_until_free(camera)
    taken.close(linger=0)
