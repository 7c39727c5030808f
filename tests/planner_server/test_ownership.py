"""Sessions belong to the token that made them; another robot's token reads them, and no more."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from planner_server.security.tokens import entry_of
from robot_client.protocol import Act, ErrorReply, Hello, Message, Observe, Welcome

ROLES = {"arm-1": "plan", "arm-2": "plan", "boss": "operate", "wall": "observe"}


def headers(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret of {name}"}


@pytest.fixture(scope="module")
def guarded(
    run_server: Any,
    make_settings: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    entries = [entry_of(name, role, f"secret of {name}") for name, role in ROLES.items()]
    # Two tokens of one name are one owner: so a token is replaced.
    entries.append(entry_of("arm-1", "plan", "new secret of arm-1"))
    path.write_text(yaml.safe_dump([entry.model_dump() for entry in entries]))
    with run_server(make_settings(tokens_file=path), "secret of boss") as address:
        yield address


@pytest.fixture
def http(guarded: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=30) as client:
        yield client


@pytest.fixture
def session(http: httpx.Client, goal_png: bytes) -> str:
    """A session of arm-1's, with a goal."""
    made = http.post("/v1/sessions", headers=headers("arm-1")).raise_for_status().json()
    assert made["owner"] == "arm-1"
    kind = {"Content-Type": "image/png", **headers("arm-1")}
    path = f"/v1/sessions/{made['id']}/goals"
    http.put(path, content=goal_png, headers=kind).raise_for_status()
    return str(made["id"])


def hello(session: str | None, name: str) -> Hello:
    return Hello(1, "test", token=f"secret of {name}", session=session)


def refused(reply: Message, code: str) -> str:
    assert isinstance(reply, ErrorReply), reply
    assert reply.code == code
    return reply.message


def ask(http: httpx.Client, verb: str, path: str, name: str, **body: Any) -> httpx.Response:
    extra = body.pop("headers", {})
    return http.request(verb, path, headers={**headers(name), **extra}, **body)


def test_another_robots_token_may_look_at_a_session_and_change_nothing_of_it(
    http: httpx.Client,
    session: str,
    goal_png: bytes,
    encode_png: Callable[[Any], bytes],
    frame: Any,
    pose: list[float],
) -> None:
    path = f"/v1/sessions/{session}"
    look = {"files": {"frame": encode_png(frame)}, "data": {"state": json.dumps(pose)}}
    image = {"content": goal_png, "headers": {"Content-Type": "image/png"}}
    for verb, where, body in (
        ("PUT", f"{path}/goals", image),
        ("POST", f"{path}/plan", look),
        ("DELETE", path, {}),
    ):
        answer = ask(http, verb, where, "arm-2", **body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "'arm-1'" in answer.json()["message"]
        assert "operate" in answer.json()["message"]
    assert ask(http, "GET", path, "arm-2").json()["plans"] == 0
    for name in ("arm-1", "boss"):
        assert ask(http, "POST", f"{path}/plan", name, **look).status_code == 200
        assert ask(http, "PUT", f"{path}/goals", name, **image).status_code == 200
    assert ask(http, "DELETE", path, "boss").status_code == 204


def test_another_robot_cannot_take_a_session_over_however_it_says_hello(
    guarded: Any, session: str, robots: Callable[[str], Any], observation: Callable[..., Observe]
) -> None:
    owner, thief = robots(guarded.zmq), robots(guarded.zmq)
    assert isinstance(owner.ask(hello(session, "arm-1")), Welcome)
    assert "'arm-1'" in refused(thief.ask(hello(session, "arm-2")), "forbidden")
    refused(thief.ask(observation(session)), "unauthorised")
    assert isinstance(owner.ask(observation(session)), Act)
    assert isinstance(robots(guarded.zmq).ask(hello(session, "boss")), Welcome)
    # A connection that changes its token does not keep what it held under the other.
    mine = thief.ask(hello(None, "arm-2")).session
    assert thief.ask(hello(None, "arm-2")).session == mine
    refused(thief.ask(hello(None, "arm-1")), "forbidden")


def test_a_replaced_token_of_the_same_name_owns_what_the_old_one_did(
    http: httpx.Client, session: str
) -> None:
    new = {"Authorization": "Bearer new secret of arm-1"}
    assert http.delete(f"/v1/sessions/{session}", headers=new).status_code == 204


def test_an_operator_makes_sessions_for_robots_and_robots_only_for_themselves(
    http: httpx.Client, guarded: Any, robots: Callable[[str], Any]
) -> None:
    def make(name: str, owner: str) -> httpx.Response:
        return ask(http, "POST", "/v1/sessions", name, params={"owner": owner})

    made = make("boss", "arm-2").raise_for_status().json()
    assert made["owner"] == "arm-2"
    assert isinstance(robots(guarded.zmq).ask(hello(made["id"], "arm-2")), Welcome)
    refused(robots(guarded.zmq).ask(hello(made["id"], "arm-1")), "forbidden")
    assert make("arm-1", "arm-1").status_code == 201
    assert make("arm-1", "arm-2").status_code == 403
    unknown = make("boss", "arm-3")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")
    assert "arm-2" in unknown.json()["message"]


def test_a_session_keeps_its_owner_when_the_server_starts_again(
    run_server: Any, make_settings: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "tokens.yaml"
    entries = [entry_of(name, role, f"secret of {name}") for name, role in ROLES.items()]
    path.write_text(yaml.safe_dump([entry.model_dump() for entry in entries]))
    settings = make_settings(tokens_file=path, data_dir=tmp_path / "data")
    with run_server(settings, "secret of boss") as address:
        made = httpx.post(f"{address.url}/v1/sessions", headers=headers("arm-1")).json()["id"]
    with run_server(settings, "secret of boss") as address:
        where = f"{address.url}/v1/sessions/{made}"
        assert httpx.delete(where, headers=headers("arm-2")).status_code == 403
        assert httpx.delete(where, headers=headers("arm-1")).status_code == 204
