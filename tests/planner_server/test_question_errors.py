"""Questions over HTTP that make no sense are refused, each with a line that says what does."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from planner_server.planning import RolloutEngine


@pytest.fixture
def http(server: Any) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


@pytest.fixture
def session(server: Any, session_with_goal: Callable[..., str]) -> str:
    return session_with_goal(server)


def refused(response: httpx.Response, code: str = "invalid_request", status: int = 422) -> str:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    return str(body["message"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pictures": "x"}, "'pictures' is unknown; allowed: images, goals"),
        ({"goals": "{}"}, "must be a list of 1 to"),
        ({"goals": "[]"}, "must be a list of 1 to"),
        ({"goals": "[{"}, "is not JSON"),
        ({"goals": json.dumps([{"images": [1]}])}, "names image 1, but the form has 1"),
        ({"goals": json.dumps([{"images": [0], "mask": 7}])}, "names image 7"),
        ({f"field-{n}": "x" for n in range(80)}, "cannot be read"),
    ],
)
def test_a_form_of_goals_that_makes_no_sense_is_refused_and_the_old_goal_stays(
    http: httpx.Client, session: str, goal_png: bytes, fields: dict[str, str], said: str
) -> None:
    where = f"/v1/sessions/{session}"
    before = http.get(where).json()["goals"]
    answer = http.put(f"{where}/goals", data=fields, files={"images": goal_png})
    assert said in refused(answer)
    assert http.get(where).json()["goals"] == before


def test_a_form_that_breaks_off_is_refused(http: httpx.Client, session: str) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    broken = b'--b\r\nContent-Disposition: form-data; name="images"\r\nX'
    answer = http.put(f"/v1/sessions/{session}/goals", content=broken, headers=kind)
    refused(answer)
    answer = http.put(
        f"/v1/sessions/{session}/goals",
        content=b"x",
        headers={"Content-Type": "multipart/form-data"},
    )
    assert "cannot be read" in refused(answer)


def test_a_file_in_place_of_a_word_is_refused(
    http: httpx.Client, goal_png: bytes, pose: list[float]
) -> None:
    files = {"frame": goal_png, "goal": goal_png, "planner": b"icem"}
    answer = http.post("/v1/plan", files=files, data={"state": json.dumps(pose)})
    assert "`planner` must be text, not a file" in refused(answer)


def test_more_frames_than_the_model_sees_are_refused_when_the_session_is_made(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RolloutEngine, "max_frames", property(lambda _: 4))
    http.post("/v1/sessions", json={"context": 2, "horizon": 3}).raise_for_status()
    answer = http.post("/v1/sessions", json={"context": 2, "horizon": 4})
    assert "context 2 and horizon 4 make 5 frames; this model sees at most 4" in refused(answer)


def test_a_goal_without_a_pose_is_refused_where_the_pose_counts(
    server: Any, http: httpx.Client, goal_png: bytes, pose: list[float]
) -> None:
    made = http.post("/v1/sessions", json={"energy": {"proprio_weight": 0.5}}).raise_for_status()
    where = f"/v1/sessions/{made.json()['id']}/goals"
    image = base64.b64encode(goal_png).decode()
    assert "has no `state`" in refused(http.put(where, json={"goals": [{"images": [image]}]}))
    goal = {"images": [image], "state": pose}
    http.put(where, json={"goals": [goal]}).raise_for_status()


@pytest.mark.parametrize("where", ["/v1/energy-landscape", "/v1/sessions/{}/energy-landscape"])
def test_an_axis_named_twice_is_refused(
    server: Any,
    http: httpx.Client,
    session: str,
    goal_png: bytes,
    pose: list[float],
    robots: Callable[[str], Any],
    observation: Callable[..., Any],
    where: str,
) -> None:
    robot = robots(server.zmq)
    robot.greet(session)
    robot.ask(observation(session))
    image = base64.b64encode(goal_png).decode()
    scene = {} if "{}" in where else {"frame": image, "goal": image, "state": pose}
    axes = [{"axis": "dx", "low": -0.1, "high": 0.1, "points": 3}] * 2
    answer = http.post(where.format(session), json={**scene, "axes": axes})
    assert "every axis once" in refused(answer)
