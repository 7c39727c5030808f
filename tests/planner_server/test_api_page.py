"""What the pages about the API promise: their commands run, their examples are answered, their names exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from planner_server.errors import HTTP_STATUS

REPOSITORY = Path(__file__).resolve().parents[2]
API = (REPOSITORY / "docs/api.md").read_text()
NEEDS_SESSION = re.compile(r"\{session_id\}")


def commands_below(heading: str) -> list[str]:
    """Return the shell commands of a section of docs/api.md."""
    section = API.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl ")]


@pytest.fixture
def pictures(tmp_path: Path, encode_png: Callable[[Any], bytes]) -> Path:
    noise = np.random.default_rng(0)
    for name in ("now", "above", "plate", "a", "b"):
        picture = noise.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        (tmp_path / f"{name}.png").write_bytes(encode_png(picture))
    return tmp_path


def run(command: str, server: Any, session: str, folder: Path) -> str:
    own = server.url.removeprefix("http://")
    command = command.replace("localhost:8000", own).replace("ID", session)
    command = command.replace("curl ", "curl --fail-with-body --max-time 30 ", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page_do_what_it_says(server: Any, pictures: Path) -> None:
    plan, landscape = commands_below("One plan")
    answer = json.loads(run(plan, server, "", pictures))
    assert np.array(answer["actions"]).shape == (1, 7)
    run(landscape, server, "", pictures)
    assert cv2.imread(str(pictures / "landscape.png")) is not None
    create, upload, observe, stream, pause = commands_below("A session from beginning to end")
    session = json.loads(run(create, server, "", pictures))["id"]
    assert len(json.loads(run(upload, server, session, pictures))["goals"]) == 2
    assert json.loads(run(observe, server, session, pictures))["goal_index"] == 0
    assert "/stream" in stream  # has no end; test_operation.py listens to it
    assert json.loads(run(pause, server, session, pictures))["state"] == "paused"
    (goals,) = commands_below("Goals")
    named = json.loads(run(goals, server, session, pictures))["goals"]
    assert [goal["name"] for goal in named] == ["above", "placed"]


def test_the_page_names_every_metric_and_no_other(server: Any) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    exposed = {name for name in exposed if not name.endswith("_created")}
    section = API.split("## Metrics\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"`(planner_\w+)`", section)) == exposed


def test_the_pages_name_every_error_code(server: Any) -> None:
    pages = API + (REPOSITORY / "docs/protocol.md").read_text()
    section = API.split("## Errors\n", 1)[1]
    for code, status in HTTP_STATUS.items():
        assert re.search(rf"`{code}`|`invalid_\*`", pages), code
        assert str(status) in section, code


def test_every_operation_says_what_it_does_and_every_example_is_answered(
    server: Any, session_with_goal: Callable[[Any], str]
) -> None:
    """Sends the bodies that the description shows, made of its own examples."""
    description = httpx.get(f"{server.url}/openapi.json").json()
    session = session_with_goal(server)
    sent = []
    for path, operations in description["paths"].items():
        for verb, operation in operations.items():
            assert operation.get("summary"), (verb, path)
            assert operation.get("description"), (verb, path)
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            if schema is None or not path.startswith(("/v1/plan", "/v1/energy", "/v1/sessions")):
                continue
            body = example_of(schema, description)
            where = NEEDS_SESSION.sub(session, path)
            answer = httpx.request(verb, f"{server.url}{where}", json=body, timeout=60)
            assert answer.status_code < 300, (verb, path, body, answer.text)
            sent.append(path)
            if path.endswith(("/pause", "/stop")):
                httpx.post(f"{server.url}/v1/sessions/{session}/resume").raise_for_status()
    assert {"/v1/plan", "/v1/energy", "/v1/energy-landscape", "/v1/sessions"} <= set(sent)


def example_of(schema: dict[str, Any], description: dict[str, Any]) -> Any:
    """Return a value made of a schema's examples; what is not required is left out where it has none."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return example_of(description["components"]["schemas"][name], description)
    for key in ("examples", "example", "default"):
        if key in schema:
            return schema[key][0] if key == "examples" else schema[key]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], description)
    if schema.get("type") == "object":
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        return {name: example_of(properties[name], description) for name in required}
    if schema.get("type") == "array":
        return [example_of(schema["items"], description)]
    raise AssertionError(f"no example: {schema}")
