"""The folder of recorded episodes, as people browse it over HTTP; nothing outside it is ever served."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from planner_server.episode_folder import find_episode, list_episodes, zip_episode
from planner_server.errors import PlannerError
from planner_server.security.tickets import Tickets
from trajectories.recorder import CameraSpec, EpisodeRecorder

ROWS = 5
NAME = "monday/first"


def record(folder: Path, session: str | None = None, *, success: bool | None = True) -> None:
    folder.mkdir(parents=True)
    attributes = {"model": "tiny"} | ({"session": session} if session else {})
    cameras = {"left": CameraSpec((32, 48))}
    recorder = EpisodeRecorder(folder, cameras, fps=10.0, task="tidy up", attributes=attributes)
    for row in range(ROWS):
        frame = np.full((32, 48, 3), 50 * row, np.uint8)
        state = np.array([0.5, 0, 0.3 + 0.01 * row, 3.1, 0, 0, 0])
        recorder.append(state, 0.1 * row, {"left": frame}, {"planner/energy_now": 1.0 - 0.1 * row})
    recorder.close(success)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    record(root / NAME, "abc")
    (root / NAME / "index.html").write_text("<!doctype html><title>tidy</title>")
    (root / NAME / "summary.json").write_text(json.dumps({"headline": "DONE after 5 steps"}))
    record(root / "second", success=None)
    record(root / "third", success=None)
    verdict = {"headline": "NOT ACHIEVED", "verdict": {"is_success": False}}
    (root / "third" / "summary.json").write_text(json.dumps(verdict))
    (root / "second" / "summary.json").write_text("{ no json")
    (root / "secret.txt").write_text("secret")
    (root / "second" / "link.txt").symlink_to(root / "secret.txt")
    (root / "second" / "away").symlink_to("/etc")
    (root / "judged-replay").mkdir()
    (root / "judged-replay" / "index.html").write_text("<!doctype html><title>replay</title>")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def http(run_server: Any, make_settings: Any, root: Path) -> Iterator[Any]:
    with run_server(make_settings(episodes=root)) as address, address.http() as client:
        yield client


def test_episodes_and_replays_are_listed_with_what_is_known_of_them(http: Any) -> None:
    answer = http.get("/v1/episodes").json()
    known = {each["name"]: each for each in answer["episodes"]}
    assert known.keys() == {NAME, "second", "third"}
    assert [known[name]["verdict"] for name in ("second", "third")] == [None, False]
    first = known[NAME]
    assert (first["frames"], first["cameras"], first["task"]) == (ROWS, ["left"], "tidy up")
    assert (first["verdict"], first["headline"]) == (True, "DONE after 5 steps")
    assert (first["session_id"], first["has_report"]) == ("abc", True)
    assert not known["second"]["has_report"]
    assert [each["name"] for each in answer["replays"]] == ["judged-replay"]


def test_an_episode_is_scrubbed_by_its_motion_and_its_frames(http: Any) -> None:
    episode = http.get(f"/v1/episodes/{NAME}").json()
    assert len(episode["t_s"]) == len(episode["states"]) == ROWS
    np.testing.assert_allclose(episode["energies"], [1.0, 0.9, 0.8, 0.7, 0.6])
    for index in (0, 3, -1):
        answer = http.get(f"/v1/episodes/{NAME}/frames/{index}")
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (32, 48, 3)
        assert abs(float(picture.mean()) - 50 * (index % ROWS)) < 12
    assert http.get(f"/v1/episodes/{NAME}/frames/{ROWS}").status_code == 404


def test_a_download_is_the_folder_and_nothing_that_links_point_to(http: Any, root: Path) -> None:
    answer = http.get("/v1/episodes/second/download")
    assert answer.headers["content-disposition"] == 'attachment; filename="second.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        packed = {info.filename: archive.read(info) for info in archive.infolist()}
    own = [p for p in (root / "second").rglob("*") if p.is_file() and not p.is_symlink()]
    own = [path for path in own if "away" not in path.parts]
    assert packed == {str(path.relative_to(root)): path.read_bytes() for path in own}


def test_a_download_is_made_piece_by_piece(tmp_path: Path) -> None:
    record(tmp_path / "long")
    (tmp_path / "long" / "film.bin").write_bytes(bytes(5_000_000))
    sizes = [len(piece) for piece in zip_episode(find_episode(tmp_path, "long"))]
    assert sum(sizes) > 5_000_000
    assert max(sizes) < 600_000


def test_a_draft_that_goes_while_the_download_is_made_is_left_out(tmp_path: Path) -> None:
    record(tmp_path / "one")
    (tmp_path / "one" / "a.draft").write_bytes(b"x")
    pieces = zip_episode(find_episode(tmp_path, "one"))
    (tmp_path / "one" / "a.draft").unlink()
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert "one/trajectory.h5" in archive.namelist()
        assert "one/a.draft" not in archive.namelist()


def test_a_download_beyond_the_limit_is_refused_before_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "one")
    monkeypatch.setattr("planner_server.episode_folder._LARGEST_DOWNLOAD_BYTES", 10)
    with pytest.raises(PlannerError, match="Copy it from the server's disk") as caught:
        zip_episode(find_episode(tmp_path, "one"))
    assert caught.value.code == "too_large"


def test_a_report_may_run_no_script_and_load_nothing(http: Any) -> None:
    for name, title in ((NAME, "tidy"), ("judged-replay", "replay")):
        answer = http.get(f"/v1/episodes/{name}/report")
        assert title in answer.text
        policy = answer.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
    assert http.get("/v1/episodes/second/report").status_code == 404


def test_a_link_shows_a_report_once_and_for_a_minute_without_a_token(
    run_server: Any, make_settings: Any, root: Path
) -> None:
    settings = make_settings(episodes=root, token="secret")
    with run_server(settings, "secret") as address, address.http() as stranger:
        assert stranger.post(f"/v1/episodes/{NAME}/report-link").status_code == 401
        with address.http(headers={"Authorization": "Bearer secret"}) as http:
            url = http.post(f"/v1/episodes/{NAME}/report-link").raise_for_status().json()["url"]
            assert http.post("/v1/episodes/second/report-link").status_code == 404
        shown = stranger.get(url)
        assert "tidy" in shown.text
        assert "sandbox" in shown.headers["content-security-policy"]
        assert stranger.get(url).status_code == 404
        assert stranger.get("/v1/reports/none").status_code == 404
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    ticket, late = tickets.issue("a"), tickets.issue("b")
    now[0] = 59.0
    assert tickets.redeem(ticket) == "a"
    now[0] = 61.0
    assert tickets.redeem(late) is None


OUTSIDE = [
    "..", "../", "second/../..", "/etc", "%2e%2e", "..%2f..%2fetc", "%2fetc", "second/away",
    "second/link.txt", "secret.txt", "empty", "second%00", "a" * 900, "none",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("what", ["", "/download", "/report", "/frames/0"])
def test_what_is_no_episode_of_the_folder_is_not_there(http: Any, name: str, what: str) -> None:
    answer = http.get(f"/v1/episodes/{name}{what}")
    # A client shortens some of these paths to others, which do not exist or list what they may.
    assert answer.status_code in (404, 405, 422) or answer.url.path in ("/v1/episodes", "/v1")
    assert "secret" not in answer.text.replace("secret.txt", "")


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc", "second/../..", "", ".", "a\0b", "x" * 5000]
)
def test_names_that_lead_elsewhere_find_nothing(root: Path, name: str) -> None:
    with pytest.raises(PlannerError) as caught:
        find_episode(root, name)
    assert caught.value.code == "not_found"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list_episodes(tmp_path / "none") == ([], [])


def test_without_a_folder_there_are_no_episodes(server: Any) -> None:
    with server.http() as http:
        assert http.get("/v1/episodes").json() == {"folder": None, "episodes": [], "replays": []}
        assert http.get("/v1/episodes/x/download").status_code == 404


def test_a_session_of_the_past_names_its_recording(
    run_server: Any, make_settings: Any, tmp_path: Path
) -> None:
    with run_server(make_settings(episodes=tmp_path)) as address, address.http() as http:
        session = http.post("/v1/sessions").json()["id"]
        record(tmp_path / "run", session)
        (past,) = http.get("/v1/history/sessions").json()["sessions"]
        assert past["episode"] == "run"
