"""The HTTP door of a running server."""

import base64
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


@pytest.fixture
def http(server: Any) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture
def session(http: httpx.Client) -> str:
    return str(http.post("/v1/sessions", json={}).raise_for_status().json()["id"])


@pytest.fixture
def plan_form(
    frame: Frame, goal_png: bytes, encode_png: Callable[[Frame], bytes]
) -> dict[str, Any]:
    return {"files": {"frame": encode_png(frame), "goal": goal_png}}


def error(response: httpx.Response, status: int, code: str) -> str:
    """Check an error answer and return its message."""
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert set(body) == {"code", "message", "request_id"}
    return str(body["message"])


def test_the_model_is_described(server: Any, http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "problem": None}
    model = http.get("/v1/model").json()
    assert model.pop("parameters") > 0
    assert model.pop("server").startswith("vjepa-planner ")
    assert {"icem", "cem"} <= set(model.pop("planners"))
    assert model.pop("geometry").pop("rows") == 4
    assert len(model.pop("sha256")) == 64
    assert model.pop("frame_geometry") == "centre_square"
    assert model == {
        "name": "tiny",
        "frame_size": [32, 32],
        "control_period_s": 1.0,
        "action_limits": {"max_step_m": 0.15, "max_rotation_rad": 0.0, "max_gripper": 1.0},
        "default_planner": "icem",
        "horizon": 1,
        "deadline_ms": None,
        "zmq_endpoint": server.zmq,
        "device": "cpu",
        "precision": "float32",
    }


def test_a_session_lives_from_its_creation_to_its_end(http: httpx.Client) -> None:
    options = {"planner": "cem", "search_gripper": False, "max_step_m": 0.05, "seed": 3}
    created = http.post("/v1/sessions", json=options)
    assert created.status_code == 201
    info = created.json()
    assert {name: info["options"][name] for name in options} == options
    assert info["state"] == "running"
    assert info["action_limits"] == {"max_step_m": 0.05, "max_rotation_rad": 0, "max_gripper": 0}
    assert info["goals"] == []
    path = f"/v1/sessions/{info['id']}"
    assert http.get(path).json()["id"] == info["id"]
    assert info["id"] in [each["id"] for each in http.get("/v1/sessions").json()["sessions"]]
    assert http.delete(path).status_code == 204
    assert "POST /v1/sessions" in error(http.get(path), 404, "unknown_session")
    error(http.delete(path), 404, "unknown_session")


def test_an_image_body_is_the_single_goal(
    http: httpx.Client, session: str, goal_png: bytes
) -> None:
    path = f"/v1/sessions/{session}/goals"
    goals = http.put(path, content=goal_png, headers={"Content-Type": "image/png"}).json()["goals"]
    again = http.put(path, content=goal_png, headers={"Content-Type": "image/png"}).json()["goals"]
    assert [(g["index"], g["width"], g["height"]) for g in goals] == [(0, 48, 48)]
    assert goals == again


def test_goals_of_a_form_keep_their_order(
    http: httpx.Client, session: str, encode_png: Callable[[Frame], bytes]
) -> None:
    images = [encode_png(np.full((32, 32 + 2 * i, 3), i, np.uint8)) for i in range(16)]
    path = f"/v1/sessions/{session}/goals"
    goals = http.put(path, files=[("images", image) for image in images]).json()["goals"]
    assert [(g["index"], g["width"]) for g in goals] == [(i, 32 + 2 * i) for i in range(16)]
    too_many = http.put(path, files=[("images", images[0])] * 17)
    error(too_many, 422, "invalid_request")
    assert len(http.get(f"/v1/sessions/{session}").json()["goals"]) == 16


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_every_promised_format_is_read(http: httpx.Client, session: str, suffix: str) -> None:
    data = cv2.imencode(suffix, np.full((40, 64, 3), 90, np.uint8))[1].tobytes()
    kind = {"Content-Type": f"image/{suffix[1:]}"}
    answer = http.put(f"/v1/sessions/{session}/goals", content=data, headers=kind)
    assert [(g["width"], g["height"]) for g in answer.json()["goals"]] == [(64, 40)]


def test_a_form_is_planned(
    http: httpx.Client, plan_form: dict[str, Any], pose: list[float]
) -> None:
    data = {"state": json.dumps(pose), "seed": "4", "search_gripper": "false", "max_step_m": "0.05"}
    response = http.post("/v1/plan", data=data, headers={"X-Request-ID": "mine-1"}, **plan_form)
    plan = response.raise_for_status().json()
    actions = np.array(plan["actions"])
    assert actions.shape == (1, 7)
    assert (np.abs(actions) <= [0.05, 0.05, 0.05, 0, 0, 0, 0]).all()
    np.testing.assert_allclose(
        np.array(plan["predicted_states"])[0, :3], np.array(pose[:3]) + actions[0, :3]
    )
    assert plan["energy"] <= plan["energy_do_nothing"]
    assert plan["evaluations"] >= 32
    assert plan["request_id"] == response.headers["X-Request-ID"] == "mine-1"


def test_json_gives_the_same_plan_as_the_form(
    http: httpx.Client, plan_form: dict[str, Any], pose: list[float]
) -> None:
    by_form = http.post("/v1/plan", data={"state": json.dumps(pose)}, **plan_form).json()
    images = {name: base64.b64encode(data).decode() for name, data in plan_form["files"].items()}
    by_json = http.post("/v1/plan", json={**images, "state": pose}).json()
    assert by_json["actions"] == by_form["actions"]
    assert by_json["energy"] == pytest.approx(by_form["energy"])


def test_the_goal_itself_needs_no_action(
    http: httpx.Client, goal_png: bytes, pose: list[float]
) -> None:
    files = {"frame": goal_png, "goal": goal_png}
    plan = http.post("/v1/plan", data={"state": json.dumps(pose)}, files=files).json()
    assert plan["energy_now"] == 0.0


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("[1, 2, 3, 4, 5, 0.5]", "6 numbers"),
        ("[0, 0, 0, 0, 0, 0, NaN]", "finite"),
        ("[580, 0, 250, 0, 0, 0, 0]", "metres"),
        ("[0.5, 0, 0.3, 0, 0, 0, true]", "7 numbers"),
        ("not json", "not JSON"),
        ("", "not JSON"),
        ('{"x": 1}', "7 numbers"),
    ],
)
def test_a_senseless_state_is_refused(
    http: httpx.Client, plan_form: dict[str, Any], state: str, hint: str
) -> None:
    response = http.post("/v1/plan", data={"state": state}, **plan_form)
    assert hint in error(response, 422, "invalid_state")


def test_the_same_holds_for_json(http: httpx.Client) -> None:
    body = {"frame": "", "goal": "", "state": [0.0] * 6}
    error(http.post("/v1/plan", json=body), 422, "invalid_state")
    error(http.post("/v1/plan", json={**body, "state": [0.0] * 7}), 422, "invalid_frame")
    error(http.post("/v1/plan", json={**body, "colour": 1}), 422, "invalid_request")
    kind = {"Content-Type": "application/json"}
    error(http.post("/v1/plan", content=b"{", headers=kind), 422, "invalid_request")
    error(http.post("/v1/plan", content=b"[" * 5000, headers=kind), 422, "invalid_request")
    error(http.post("/v1/plan", content=b"x"), 415, "unsupported_media_type")


def test_incomplete_forms_are_refused(
    http: httpx.Client, plan_form: dict[str, Any], pose: list[float]
) -> None:
    state = {"state": json.dumps(pose)}
    only_frame = {"frame": plan_form["files"]["frame"]}
    assert "goal" in error(
        http.post("/v1/plan", data=state, files=only_frame), 422, "invalid_request"
    )
    bad = http.post("/v1/plan", data={**state, "planer": "icem"}, **plan_form)
    assert "planer" in error(bad, 422, "invalid_request")
    bad = http.post("/v1/plan", data={**state, "planner": "magic"}, **plan_form)
    assert "icem" in error(bad, 422, "unknown_planner")
    bad = http.post("/v1/plan", data={**state, "max_step_m": "0.5"}, **plan_form)
    assert "0.15" in error(bad, 422, "invalid_request")
    bad = http.post("/v1/plan", content=b"--x", headers={"Content-Type": "multipart/form-data"})
    error(bad, 422, "invalid_request")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def test_bad_images_are_refused(http: httpx.Client, session: str, goal_png: bytes) -> None:
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 9, np.uint8))[1].tobytes()
    small = cv2.imencode(".png", np.zeros((8, 64, 3), np.uint8))[1].tobytes()
    path = f"/v1/sessions/{session}/goals"
    for data, hint in [
        (b"", "no image"),
        (b"hello world, this is text", "PNG, JPEG or WebP"),
        (goal_png[: len(goal_png) // 2], "incomplete"),
        (jpeg[:-200], "incomplete"),
        (small, "16 to 4096"),
        (bomb(100_000, 100_000), "16 to 4096"),
    ]:
        response = http.put(path, content=data, headers={"Content-Type": "image/png"})
        assert hint in error(response, 422, "invalid_frame")
    error(
        http.put(path, content=b"x", headers={"Content-Type": "text/plain"}),
        415,
        "unsupported_media_type",
    )
    assert http.get(f"/v1/sessions/{session}").json()["goals"] == []


def test_what_does_not_exist_is_said_in_the_same_form(http: httpx.Client, goal_png: bytes) -> None:
    error(http.get("/v1/nothing"), 404, "not_found")
    error(http.post("/v1/model"), 405, "method_not_allowed")
    error(http.put("/v1/sessions/none/goals", content=goal_png), 404, "unknown_session")
    error(http.post("/v1/sessions", json={"planer": "icem"}), 422, "invalid_request")
    error(http.post("/v1/sessions", json={"planner": "magic"}), 422, "unknown_planner")
    error(http.post("/v1/sessions", json={"max_step_m": -1}), 422, "invalid_request")


def test_every_answer_carries_a_request_id(http: httpx.Client) -> None:
    response = http.get("/v1/nothing", headers={"X-Request-ID": "bad id\tthat is odd"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] != "bad id"
    assert http.get("/healthz").headers["X-Request-ID"] != response.headers["X-Request-ID"]


def test_the_api_documents_its_image_routes(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert "multipart/form-data" in paths["/v1/plan"]["post"]["requestBody"]["content"]
    assert "image/png" in paths["/v1/sessions/{session_id}/goals"]["put"]["requestBody"]["content"]
    assert http.get("/docs").status_code == 200


def test_health_is_answered_while_a_plan_is_made(
    slow_server: Any, plan_form: dict[str, Any], pose: list[float]
) -> None:
    def plan() -> None:
        with slow_server.http() as http:
            response = http.post("/v1/plan", data={"state": json.dumps(pose)}, **plan_form)
            answers.append((time.monotonic(), response.json()))

    answers: list[tuple[float, dict[str, Any]]] = []
    thread = threading.Thread(target=plan)
    thread.start()
    answered = 0
    with slow_server.http() as http:
        while thread.is_alive():
            assert http.get("/healthz").status_code == 200
            answered += 1
    assert answers[0][1]["plan_ms"] >= 50  # of the 500 ms, what was left when its turn came
    assert "deadline" in answers[0][1]["warnings"][0]
    assert answered > 3  # the first would be the only one if it had to wait for the plan


def test_a_token_guards_the_api(run_server: Any, make_settings: Callable[..., Any]) -> None:
    with run_server(make_settings(token="secret", max_request_bytes=2000)) as address:
        with address.http() as http:
            assert http.get("/healthz").status_code == 200
            assert "PLANNER_TOKEN" in error(http.get("/v1/model"), 401, "unauthorised")
        with address.http(headers={"Authorization": "Bearer wrong"}) as http:
            error(http.get("/v1/sessions"), 401, "unauthorised")
        with address.http(headers={"Authorization": "Bearer secret"}) as http:
            session = http.post("/v1/sessions").json()["id"]
            big = http.put(
                f"/v1/sessions/{session}/goals",
                content=bytes(5000),
                headers={"Content-Type": "image/png"},
            )
            assert "2000" in error(big, 413, "too_large")
