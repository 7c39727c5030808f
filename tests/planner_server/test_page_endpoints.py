"""The operator's page: its files, and what it asks beyond the API for robots and scripts."""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.checkpoint import load_world_model
from models.decoder import DecoderConfig, PixelDecoder, save_decoder
from models.preprocess import normalise_pixels, preprocess_frames
from planner_server.errors import PlannerError
from planner_server.goals import GoalImage, SubGoal
from planner_server.options import PlanOptions
from planner_server.page.assets import FOLDER
from planner_server.page.crops import box_of, pixels_seen
from planner_server.page.joint_stream import tagged
from planner_server.page.moments import imagine
from planner_server.page.questions import ImagineJson
from planner_server.security.tokens import make_token
from planner_server.session import Look, Session

MOST_BYTES = 500_000
Image = NDArray[np.uint8]


def decoded(png: bytes) -> Image:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture(scope="module")
def world_model(model_dir):
    return load_world_model(model_dir).eval()


@pytest.fixture
def planned(server, session_with_goal, goal_png, encode_png, frame, pose) -> Callable[..., Any]:
    """A session that has been planned for once, and what its last plan said."""

    def make(**goal: Any) -> tuple[str, dict[str, Any]]:
        session = session_with_goal(server)
        with server.http() as http:
            if goal:
                body = {"goals": [{"images": [base64.b64encode(goal_png).decode()], **goal}]}
                http.put(f"/v1/sessions/{session}/goals", json=body).raise_for_status()
            return session, look(http, session, encode_png(frame), pose)

    return make


def look(http: httpx.Client, session: str, png: bytes, pose: list[float]) -> dict[str, Any]:
    seen = http.post(
        f"/v1/sessions/{session}/plan", files={"frame": png}, data={"state": json.dumps(pose)}
    )
    answer: dict[str, Any] = seen.raise_for_status().json()
    return answer


def ask(server: Any, session: str, what: str, body: Any = None) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post(f"/v1/sessions/{session}/{what}", json=body).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


# Files ---------------------------------------------------------------------------------------------


def test_the_page_runs_only_what_its_own_server_sends(server):
    with server.http() as http:
        for path in ("/", "/page/app.js", "/page/style.css", "/page/vendor/uplot.js"):
            policy = http.get(path).raise_for_status().headers["content-security-policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
        assert "img-src 'self' data: blob:" in policy


def test_a_file_that_the_browser_has_is_not_sent_again(server):
    with server.http() as http:
        for path in ("/", "/page/app.js"):
            first = http.get(path)
            again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert first.status_code == 200
            assert again.status_code == 304
            assert not again.content


def test_the_whole_page_is_small():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < MOST_BYTES


def test_what_files_name_exists_and_nothing_comes_from_elsewhere(server):
    asked = {"/"}
    with server.http() as http:
        for file in FOLDER.rglob("*"):
            if file.suffix not in (".html", ".js") or file.parent.name == "vendor":
                continue
            text = file.read_text()
            folder = f"/page/{file.parent.relative_to(FOLDER)}"
            asked |= set(re.findall(r"(?:href|src)=\"(/[^\"]+)\"", text))
            asked |= {f"{folder}/{name}" for name in re.findall(r"from \"(\.[^\"]+)\"", text)}
            assert not re.search(r"(src|href)=\"(https?:)?//", text)
            assert not re.search(r"import [^;]*\"https?:", text)
        for path in asked:
            assert http.get(path).status_code == 200, path


def test_the_page_has_no_inline_script_and_no_inline_style():
    text = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "<style" not in text
    assert not re.search(r"\s(style|on\w+)=", text)


def test_a_page_file_that_does_not_exist_is_not_found_in_the_words_of_the_api(server):
    with server.http() as http:
        for path in ("/page/nothing.js", "/page/../settings.py", "/page/%2e%2e/routes.py"):
            answer = http.get(path)
            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"


# Who asks ------------------------------------------------------------------------------------------


def test_files_are_open_and_everything_else_wants_a_token(make_settings, run_server):
    with run_server(make_settings(token="secret"), "secret") as address, address.http() as http:
        assert http.get("/").status_code == 200
        assert http.get("/page/app.js").status_code == 200
        for path in ("/v1/whoami", "/v1/stream?session=a", "/v1/sessions/a/frame"):
            assert http.get(path).status_code == 401
        mine = http.get("/v1/whoami", headers={"Authorization": "Bearer secret"}).json()
        assert (mine["role"], mine["is_open"]) == ("operate", False)


def test_an_observer_may_watch_and_crop_but_not_keep_the_model_busy(
    make_settings, run_server, goal_png, tmp_path
):
    token, entry = make_token("visitor", "observe")
    boss, boss_entry = make_token("boss", "operate")
    file = tmp_path / "tokens.yaml"
    file.write_text(json.dumps([entry.model_dump(), boss_entry.model_dump()]))
    settings = make_settings(tokens_file=file, token="known")
    with run_server(settings, "known") as address, address.http() as http:
        session = http.post("/v1/sessions", headers=bearer(boss)).json()["id"]
        http.headers.update(bearer(token))
        assert http.get("/v1/whoami").json()["name"] == "visitor"
        assert http.post("/v1/crop", content=goal_png).status_code == 200
        for what in ("imagine", "energy-landscape"):
            body = {"axes": [{"axis": "dx", "low": -1, "high": 1, "points": 2}]}
            refused = http.post(f"/v1/sessions/{session}/{what}", json=body)
            assert refused.status_code == 403


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Frames and crops ----------------------------------------------------------------------------------


def test_the_frame_is_the_one_planned_for_last_to_the_pixel(server, planned, frame):
    session, plan = planned()
    with server.http() as http:
        answer = http.get(f"/v1/sessions/{session}/frame").raise_for_status()
        assert answer.headers["x-seq"] == str(plan["seq"])
        assert np.array_equal(decoded(answer.content), frame)
        small = http.get(f"/v1/sessions/{session}/frame?format=jpeg")
        assert small.headers["content-type"] == "image/jpeg"
        assert decoded(small.content).shape == frame.shape


def test_before_the_first_plan_there_is_no_frame(server, session_with_goal):
    session = session_with_goal(server)
    with server.http() as http:
        for answer in (
            http.get(f"/v1/sessions/{session}/frame"),
            http.post(f"/v1/sessions/{session}/imagine"),
        ):
            assert answer.status_code == 404
            assert "start its robot" in answer.json()["message"]


@pytest.mark.parametrize("shape", [(48, 48), (60, 100), (100, 60), (33, 47)])
def test_a_crop_is_what_the_model_sees(server, world_model, encode_png, shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with server.http() as http:
        answer = http.post("/v1/crop", content=encode_png(image)).raise_for_status()
    shown = decoded(answer.content)
    geometry = world_model.config.frame_geometry
    seen = preprocess_frames(torch.from_numpy(image)[None], world_model.frame_size, geometry)[0]
    again = normalise_pixels(torch.from_numpy(shown.copy()).permute(2, 0, 1).float())
    half_a_grey_level = 0.5 / 255 / 0.224
    assert float((again - seen).abs().max()) <= half_a_grey_level + 1e-4
    left, top, right, bottom = map(int, answer.headers["x-crop"].split(","))
    assert [int(side) for side in answer.headers["x-size"].split(",")] == [shape[1], shape[0]]
    side = min(shape)
    assert (right - left, bottom - top) == (side, side)
    inside = pixels_seen(image[top:bottom, left:right].copy(), world_model.frame_size, geometry)
    assert np.array_equal(inside.numpy(), shown)


def test_the_other_geometry_keeps_more_of_a_wide_frame():
    assert box_of(60, 100, "squash_1_35") == (9, 0, 90, 60)
    assert box_of(60, 70, "squash_1_35") == (0, 0, 70, 60)


def test_a_file_that_is_no_image_has_no_crop(server):
    with server.http() as http:
        answer = http.post("/v1/crop", content=b"no image at all")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_frame"


def test_the_mask_of_a_goal_comes_back_as_it_was_sent(server, planned, encode_png):
    mask = np.zeros((48, 48, 3), np.uint8)
    mask[:24] = 255
    png = encode_png(mask)
    session, _ = planned(mask=base64.b64encode(png).decode())
    with server.http() as http:
        assert http.get(f"/v1/sessions/{session}/goals/0/mask").content == png
        assert http.get(f"/v1/sessions/{session}/goals/1/mask").status_code == 404


# Imagining -----------------------------------------------------------------------------------------


def test_the_heat_is_the_distance_of_every_token_from_the_goal(
    server, planned, world_model, frame, goal_png
):
    session, plan = planned()
    found = ask(server, session, "imagine")
    rows, columns = world_model.config.encoder.grid_size
    with torch.inference_mode():
        seen = world_model.encode(torch.from_numpy(frame)[None])[0]
        goal = world_model.encode(torch.from_numpy(decoded(goal_png).copy())[None])[0]
    expected = (seen - goal).abs().mean(dim=-1).reshape(rows, columns)
    assert np.allclose(found["heat_now"], expected.numpy(), atol=1e-5)
    assert np.isclose(np.mean(found["heat_now"]), found["energy_now"], atol=1e-5)
    assert found["actions"] == plan["actions"]
    assert found["seq"] == plan["seq"]


def test_the_mean_heat_after_the_last_action_is_the_energy(server, planned):
    session, plan = planned()
    found = ask(server, session, "imagine", {"actions": [[0.02, 0, 0, 0, 0, 0, 0]] * 2})
    assert len(found["heat_steps"]) == len(found["states"]) == 2
    assert np.isclose(np.mean(found["heat_steps"][-1]), found["energy"], atol=1e-5)
    same = ask(server, session, "imagine")
    assert np.isclose(same["energy"], plan["energy"], atol=1e-4)


def test_with_a_region_the_energy_is_the_mean_heat_inside_it(server, planned):
    session, _ = planned(region=[0, 0, 1, 0.5])
    found = ask(server, session, "imagine")
    mask = np.array(found["mask"])
    assert 0 < mask.sum() < mask.size
    assert np.isclose(np.array(found["heat_steps"][-1])[mask].mean(), found["energy"], atol=1e-5)


def test_holding_still_is_worth_what_it_says(server, planned):
    session, _ = planned()
    found = ask(server, session, "imagine", {"actions": [[0.0] * 7]})
    assert found["energy"] == pytest.approx(found["energy_do_nothing"], abs=1e-6)
    assert found["pictures"] is None


def test_a_moment_that_was_asked_about_stays_while_the_robot_moves_on(
    server, planned, encode_png, frame, pose
):
    session, plan = planned()
    before = ask(server, session, "imagine")
    with server.http() as http:
        look(http, session, encode_png(255 - frame), pose)
        again = ask(server, session, "imagine", {"seq": plan["seq"], "actions": plan["actions"]})
        kept = http.get(f"/v1/sessions/{session}/frame?seq={plan['seq']}")
        assert np.array_equal(decoded(kept.content), frame)
        gone = http.post(f"/v1/sessions/{session}/imagine", json={"seq": 999})
    assert again["heat_now"] == before["heat_now"]
    assert gone.status_code == 404
    assert ask(server, session, "imagine")["heat_now"] != before["heat_now"]


def test_too_many_actions_are_refused_in_plain_words(pose):
    """A model that sees three frames cannot imagine four actions."""
    still = np.zeros((4, 7))
    now = Look(7, lambda: np.zeros((16, 16, 3), np.uint8), np.array(pose), 0, still[:1])
    goal = SubGoal((GoalImage("", 16, 16, "image/png", b""),))
    session = Session("s", PlanOptions(), SimpleNamespace(), 0.0, 0.0, goals=(goal,), newest=now)
    service = SimpleNamespace(model=SimpleNamespace(engine=SimpleNamespace(max_frames=3)))
    with pytest.raises(PlannerError, match=r"4 actions are more than the 3 .* look ahead"):
        asyncio.run(imagine(service, session, ImagineJson(actions=still.tolist())))


def test_a_decoder_beside_the_model_draws_what_is_imagined(
    model_dir, make_settings, run_server, session_with_goal, encode_png, frame, pose, tmp_path
):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    config = load_world_model(folder).config
    torch.manual_seed(0)
    shape = {"decoder_embed_dim": 32, "depth": 1, "num_heads": 2}
    size = tuple(2 * side for side in config.encoder.grid_size)
    fitting = DecoderConfig(
        embed_dim=config.encoder.embed_dim,
        grid_size=config.encoder.grid_size,
        img_size=size,
        **shape,
    )
    save_decoder(PixelDecoder(fitting), folder, metadata={})
    with run_server(make_settings(model=folder)) as address:
        session = session_with_goal(address)
        with address.http() as http:
            assert http.get("/v1/whoami").json()["has_decoder"] is True
            look(http, session, encode_png(frame), pose)
        found = ask(address, session, "imagine", {"actions": [[0.01, 0, 0, 0, 0, 0, 0]] * 2})
    pictures = [decoded(base64.b64decode(picture)) for picture in found["pictures"]]
    assert [picture.shape for picture in pictures] == [(*size, 3)] * 4
    assert not np.array_equal(pictures[0], pictures[1])


# Landscape -----------------------------------------------------------------------------------------


def test_a_slice_is_what_the_landscape_of_the_same_images_is(
    server, planned, encode_png, frame, goal_png, pose
):
    session, _ = planned()
    axes = [
        {"axis": "dz", "low": -0.05, "high": 0.05, "points": 7},
        {"axis": "dx", "low": -0.04, "high": 0.04, "points": 5},
    ]  # more than one portion
    found = ask(server, session, "energy-landscape", {"axes": axes})
    with server.http() as http:
        files = {"frame": encode_png(frame), "goal": goal_png}
        form = {"state": json.dumps(pose), "axes": json.dumps(axes)}
        other = http.post("/v1/energy-landscape", files=files, data=form).raise_for_status().json()
    assert np.allclose(found["energies"], other["energies"], atol=1e-5)
    assert found["values"] == other["values"]
    middle = found["energies"][len(found["energies"]) // 2]
    assert middle == pytest.approx(found["energy_do_nothing"], abs=1e-5)
    assert found["best_energy"] == min(found["energies"])


def test_a_slice_goes_through_the_action_it_is_asked_around(server, planned):
    session, _ = planned()
    around = [0, 0.03, 0, 0, 0, 0, 0.2]
    axes = [{"axis": "dx", "low": 0, "high": 0.02, "points": 2}]
    found = ask(server, session, "energy-landscape", {"axes": axes, "around": around})
    direct = ask(server, session, "imagine", {"actions": [around]})
    assert found["energies"][0] == pytest.approx(direct["energy"], abs=1e-5)
    assert found["best_action"][1] == 0.03


# Streams -------------------------------------------------------------------------------------------


def test_one_stream_carries_several_sessions_and_says_whose_an_event_is(
    server, session_with_goal, encode_png, frame, pose
):
    first, second = session_with_goal(server), session_with_goal(server)
    names = [first, second, "unknown"]
    found: list[tuple[str, str]] = []
    with (
        server.http() as http,
        http.stream("GET", "/v1/stream", params={"session": names}) as stream,
    ):
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if not line.startswith("data: "):
                continue
            found.append((kind, json.loads(line.removeprefix("data: "))["session"]))
            if len(found) == len(names):
                with server.http() as other:
                    for session in (first, second):
                        look(other, session, encode_png(frame), pose)
                    for session in (first, second):
                        other.delete(f"/v1/sessions/{session}")
    assert found[:3] == [("session", first), ("session", second), ("end", "unknown")]
    assert found[3:] == [("plan", first), ("plan", second), ("end", first), ("end", second)]


def test_a_stream_of_no_session_is_refused(server):
    with server.http() as http:
        assert http.get("/v1/stream").status_code == 422
        many = {"session": [str(index) for index in range(17)]}
        assert http.get("/v1/stream", params=many).status_code == 422


@pytest.mark.parametrize("data", [{}, {"a": 1, "b": {"c": []}}])
def test_a_tagged_event_is_the_event_and_its_session(data):
    assert json.loads(tagged('we"ird', json.dumps(data))) == {"session": 'we"ird', **data}


def test_the_page_is_part_of_the_installed_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (patterns,) = re.findall(r'"planner_server\.page" = \[(.*)\]', text)
    folder = FOLDER.parent
    packaged = {
        file for pattern in re.findall(r'"(.*?)"', patterns) for file in folder.glob(pattern)
    }
    assert {file for file in FOLDER.rglob("*") if file.is_file()} <= packaged
