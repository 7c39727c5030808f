"""What people see and do over HTTP: goals in every form, energies, streams, history, metrics."""

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from robot_client.protocol import Act, Observe

Observation = Callable[..., Observe]


@pytest.fixture
def http(server: Any) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture
def session(server: Any, session_with_goal: Callable[[Any], str]) -> str:
    return session_with_goal(server)


@pytest.fixture
def question(
    frame: Any, goal_png: bytes, encode_png: Callable[[Any], bytes], pose: list[float]
) -> dict[str, Any]:
    return {"frame": text(encode_png(frame)), "goal": text(goal_png), "state": pose}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def error(response: httpx.Response, status: int, code: str) -> str:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    return str(body["message"])


def put(http: httpx.Client, session: str, goals: Any) -> httpx.Response:
    return http.put(f"/v1/sessions/{session}/goals", json={"goals": goals})


def test_goals_in_json_may_have_images_weights_regions_and_rules(
    http: httpx.Client,
    session: str,
    goal_png: bytes,
    encode_png: Callable[[Any], bytes],
    frame: Any,
) -> None:
    goal = {
        "images": [text(goal_png), text(encode_png(frame))],
        "weights": [1, 0.5],
        "region": [0.25, 0.25, 0.75, 0.75],
        "name": "block",
        "max_steps": 4,
        "energy_threshold": 0.2,
    }
    answer = put(http, session, [goal, {"images": [text(goal_png)]}]).raise_for_status().json()
    assert answer["saved"] is True
    first = answer["goals"][0]
    assert (first["images"], first["name"], first["region"]) == (2, "block", goal["region"])
    stored = http.get(f"/v1/sessions/{session}/goals/0/image")
    assert (stored.content, stored.headers["content-type"]) == (goal_png, "image/png")
    error(http.get(f"/v1/sessions/{session}/goals/7/image"), 404, "not_found")


def test_only_the_region_of_interest_counts(
    http: httpx.Client,
    session: str,
    encode_png: Callable[[Any], bytes],
    frame: Any,
    pose: list[float],
) -> None:
    """A goal that differs from the frame outside the region only is a smaller distance away."""
    other = frame.copy()
    other[:24] = 255 - other[:24]
    mask = np.zeros_like(frame)
    mask[24:] = 255

    def energy_now(**rules: Any) -> float:
        put(http, session, [{"images": [text(encode_png(other))], **rules}]).raise_for_status()
        body = {"frame": text(encode_png(frame)), "state": pose}
        answer = http.post(f"/v1/sessions/{session}/plan", json=body).raise_for_status().json()
        return float(answer["energy_now"])

    upper, lower = energy_now(region=[0, 0, 1, 0.5]), energy_now(region=[0, 0.5, 1, 1])
    assert lower < upper
    assert energy_now(mask=text(encode_png(mask))) == pytest.approx(lower)


@pytest.mark.parametrize(
    ("goal", "hint"),
    [
        ({"images": []}, "images"),
        ({"images": ["A"]}, "base64"),
        ({"region": [0.5, 0.5, 0.5, 0.6]}, "empty"),
        ({"region": [0.5, 0.5, 0.51, 0.51]}, "enlarge"),
        ({"weights": [1, 2]}, "one per image"),
        ({"weights": [0]}, "at least one"),
        ({"max_steps": 0}, "max_steps"),
        ({"colour": "red"}, "colour"),
        ({"images": [{"episode": "none", "frame": 0}]}, "PLANNER_EPISODES"),
    ],
)
def test_goals_that_make_no_sense_are_refused_and_the_old_ones_stay(
    http: httpx.Client, session: str, goal_png: bytes, goal: dict[str, Any], hint: str
) -> None:
    answer = put(http, session, [{"images": [text(goal_png)], **goal}])
    assert answer.status_code == 422, answer.json()
    assert hint in answer.json()["message"]
    assert len(http.get(f"/v1/sessions/{session}").json()["goals"]) == 1


def test_a_mask_of_another_shape_is_refused(
    http: httpx.Client, session: str, goal_png: bytes, encode_png: Callable[[Any], bytes]
) -> None:
    small = text(encode_png(np.full((16, 16, 3), 255, np.uint8)))
    answer = put(http, session, [{"images": [text(goal_png)], "mask": small}])
    assert "same shape" in error(answer, 422, "invalid_frame")


def test_sessions_narrow_what_is_planned(
    http: httpx.Client, server: Any, robots: Any, goal_png: bytes, observation: Observation
) -> None:
    options = {
        "task": "stay low",
        "l1_radius_m": 0.05,
        "workspace": {"low_m": [0, -1, 0], "high_m": [1, 1, 0.2476]},
        "search_gripper": False,
        "horizon": 2,
        "control_period_s": 0.5,
        "max_evaluations": 40,
    }
    made = http.post("/v1/sessions", json=options).raise_for_status().json()
    kind = {"Content-Type": "image/png"}
    http.put(f"/v1/sessions/{made['id']}/goals", content=goal_png, headers=kind)
    robot = robots(server.zmq)
    assert robot.greet(made["id"]).control_period_s == 0.5
    act = robot.ask(observation(made["id"]))
    assert isinstance(act, Act)
    assert act.actions.shape == (2, 7)
    assert (np.abs(act.actions[:, :3]).sum(axis=1) <= 0.05 + 1e-6).all()
    assert (act.predicted_states[:, 2] <= 0.2476 + 1e-6).all()
    assert (act.actions[:, 6] == 0).all()
    assert act.evaluations <= 40 + 2


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"workspace": {"low_m": [1, 0, 0], "high_m": [0, 1, 1]}}, "workspace"),
        ({"gripper": {"close_from": 0, "open_from": 0}}, "one of them"),
        ({"energy": {"metric": "magic"}}, "metric"),
        ({"deadline_ms": 0}, "deadline_ms"),
    ],
)
def test_contradictory_sessions_are_refused(
    http: httpx.Client, options: dict[str, Any], hint: str
) -> None:
    assert hint in error(http.post("/v1/sessions", json=options), 422, "invalid_request")


def test_a_session_plans_over_http_as_over_zmq(
    http: httpx.Client,
    server: Any,
    session: str,
    robots: Any,
    observation: Observation,
    question: dict[str, Any],
) -> None:
    body = {"frame": question["frame"], "state": question["state"], "seq": 3}
    answer = http.post(f"/v1/sessions/{session}/plan", json=body).raise_for_status().json()
    robot = robots(server.zmq)
    robot.greet(session)
    act = robot.ask(observation(session, seq=3))
    np.testing.assert_allclose(answer["actions"], act.actions)
    assert answer["energy"] == pytest.approx(act.energy)
    assert (answer["seq"], answer["goal_index"], answer["is_goal_done"]) == (3, 0, False)
    error(http.post("/v1/sessions/none/plan", json=body), 404, "unknown_session")


def test_energies_agree_with_the_plan_that_the_same_actions_are(
    http: httpx.Client, question: dict[str, Any]
) -> None:
    plan = http.post("/v1/plan", json=question).raise_for_status().json()
    sequences = [plan["actions"], [[0.0] * 7], [[0.1, 0, 0, 0, 0, 0, 0]]]
    answer = http.post("/v1/energy", json={**question, "actions": sequences}).json()
    assert answer["energies"][0] == pytest.approx(plan["energy"], rel=1e-4)
    assert answer["energies"][1] == pytest.approx(answer["energy_do_nothing"], rel=1e-5)
    assert answer["energy_now"] == pytest.approx(plan["energy_now"], rel=1e-5)
    for actions in ([[[0.0] * 6]], [[[0.0] * 7], [[0.0] * 7] * 2], [[[99.0] * 7]]):
        bad = http.post("/v1/energy", json={**question, "actions": actions})
        error(bad, 422, "invalid_request")


def test_a_landscape_is_numbers_or_a_picture(http: httpx.Client, question: dict[str, Any]) -> None:
    axes = [
        {"axis": "dx", "low": -0.1, "high": 0.1, "points": 3},
        {"axis": "dz", "low": -0.1, "high": 0.1, "points": 5},
    ]
    path = "/v1/energy-landscape"
    answer = http.post(path, json={**question, "axes": axes}).raise_for_status().json()
    assert (answer["axes"], len(answer["energies"])) == (["dx", "dz"], 15)
    assert answer["best_energy"] == min(answer["energies"])
    best = answer["energies"].index(answer["best_energy"])
    assert answer["best_action"][0] == pytest.approx(answer["values"][0][best // 5])
    assert answer["best_action"][2] == pytest.approx(answer["values"][1][best % 5])
    picture = http.post(f"{path}?format=png", json={**question, "axes": axes})
    assert picture.headers["content-type"] == "image/png"
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), 1).shape[0] >= 300
    twice = http.post(path, json={**question, "axes": [axes[0], axes[0]]})
    error(twice, 422, "invalid_request")
    huge = [{**axes[0], "points": 256}, {**axes[1], "points": 256}]
    error(http.post(path, json={**question, "axes": huge}), 422, "invalid_request")


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_a_stream_shows_plans_orders_errors_and_the_end(
    server: Any, http: httpx.Client, session: str, robots: Any, observation: Observation
) -> None:
    robot = robots(server.zmq)
    robot.greet(session)
    with (
        server.http() as watcher,
        watcher.stream("GET", f"/v1/sessions/{session}/stream") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = events_of(stream.iter_lines())
        assert next(events)[1]["id"] == session
        act = robot.ask(observation(session, seq=1))
        kind, plan = next(events)
        assert (kind, plan["seq"], plan["energy"]) == ("plan", 1, pytest.approx(act.energy))
        assert base64.b64decode(plan["frame_jpeg"]).startswith(b"\xff\xd8")
        assert np.array(plan["heat"]).shape == (4, 4)
        assert len(plan["candidates"]["actions"]) == len(plan["candidates"]["energies"]) > 0
        assert {"encode_ms", "plan_ms", "queue_ms", "goal_index", "goal_sha256"} <= set(plan)
        robot.ask(observation(session, seq=2, goal_index=9))
        assert next(events)[1]["code"] == "no_goal"
        http.post(f"/v1/sessions/{session}/pause", json={"reason": "look"})
        assert next(events) == ("state", {"state": "paused", "order": 1, "reason": "look"})
        http.delete(f"/v1/sessions/{session}")
        assert [kind for kind, _ in events] == ["end"]
    error(http.get(f"/v1/sessions/{session}/stream"), 404, "unknown_session")


def test_every_plan_and_every_event_can_be_looked_up(
    server: Any, http: httpx.Client, session: str, robots: Any, observation: Observation
) -> None:
    robot = robots(server.zmq)
    robot.greet(session)
    acts = [robot.ask(observation(session, seq=seq)) for seq in range(5)]
    http.post(f"/v1/sessions/{session}/stop", json={"reason": "done"}).raise_for_status()
    path = f"/v1/sessions/{session}"
    newest = http.get(f"{path}/plans", params={"limit": 2}).json()["plans"]
    assert [plan["seq"] for plan in newest] == [4, 3]
    older = http.get(f"{path}/plans", params={"before": newest[-1]["id"]}).json()["plans"]
    assert [plan["seq"] for plan in older] == [2, 1, 0]
    record = newest[0]["record"]
    np.testing.assert_array_equal(record["actions"], acts[4].actions)
    assert record["frame_sha256"] == older[0]["record"]["frame_sha256"]  # the same picture
    assert len(record["goal_sha256"]) == 64
    kinds = [event["kind"] for event in http.get(f"{path}/events").json()["events"]]
    assert kinds == ["order_stopped", "hello", "goals_set", "session_created"]
    http.delete(path).raise_for_status()
    assert len(http.get(f"{path}/plans").json()["plans"]) == 5  # an ended session can be audited
    assert http.get("/v1/sessions/-/events").json()["events"][-1]["kind"] == "server_started"


def test_single_plans_are_recorded_too(http: httpx.Client, question: dict[str, Any]) -> None:
    answer = http.post("/v1/plan", json=question, headers={"X-Request-ID": "look-me-up"})
    assert answer.status_code == 200
    newest = http.get("/v1/sessions/-/plans", params={"limit": 1}).json()["plans"][0]
    assert newest["record"]["request_id"] == "look-me-up"


def test_metrics_are_counted(
    server: Any, http: httpx.Client, session: str, robots: Any, observation: Observation
) -> None:
    def read() -> dict[str, float]:
        lines = http.get("/metrics").raise_for_status().text.splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    before = read()
    robot = robots(server.zmq)
    robot.greet(session)
    robot.ask(observation(session, seq=1))
    robot.ask(observation(session, seq=1))
    http.get("/v1/nothing")
    after = read()

    def growth(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert growth('planner_plan_seconds_count{planner="icem"}') == 1
    assert growth("planner_queue_age_seconds_count") == 1
    assert growth("planner_evaluations_total") >= 32
    assert growth('planner_errors_total{code="stale_seq",door="zmq"}') == 1
    assert growth('planner_errors_total{code="not_found",door="http"}') == 1
    assert after["planner_sessions"] >= 1
    assert after["planner_gpu_memory_bytes"] == 0


def test_a_slow_watcher_loses_the_oldest_events_and_is_told(
    server: Any, session: str, robots: Any, observation: Observation
) -> None:
    robot = robots(server.zmq)
    robot.greet(session)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as watcher:
        watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        watcher.connect((host, int(port)))
        request = f"GET /v1/sessions/{session}/stream HTTP/1.1\r\nHost: {host}\r\n\r\n"
        watcher.sendall(request.encode())
        # Pictures that compress badly, so that the kernel's own buffers are full soon.
        noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        last = 150
        for seq in range(last + 1):  # nobody reads
            assert isinstance(robot.ask(observation(session, seq=seq, frame=noise)), Act)
        kinds = []
        with watcher.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"event: "):
                    kinds.append(line[7:].strip().decode())
                elif f'"seq":{last},'.encode() in line:
                    break
    assert "missed" in kinds
    assert kinds.count("plan") <= last
    assert kinds[-1] == "plan"  # the newest is never lost
    assert robot.ping() < 10.0


def test_observations_over_http_overtake_each_other(
    slow_server: Any, session_with_goal: Callable[[Any], str], question: dict[str, Any]
) -> None:
    session = session_with_goal(slow_server)
    body = {"frame": question["frame"], "state": question["state"]}
    answers: list[int] = []

    def ask() -> None:
        with slow_server.http() as http:
            answers.append(http.post(f"/v1/sessions/{session}/plan", json=body).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(set(answers)) == [200, 409]
    assert 1 <= answers.count(200) <= 2
