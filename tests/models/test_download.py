"""Downloads go on where they broke, are checked, and are complete or not there."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from models import download as downloading
from models.checkpoint import load_encoder
from models.config import EncoderConfig, tiny
from models.download import CACHE_VARIABLE, cache_directory, download
from models.encoder import VisionTransformer
from models.errors import CheckpointNotFoundError, CorruptCheckpointError

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Server:
    """What a server has, how often and where it cuts connections, and what it was asked for."""

    content: bytes = CONTENT
    tag: str = '"one"'
    cuts: int = 0
    cut_after: int = 300_000
    status: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    plan: Server

    def do_GET(self) -> None:
        plan = self.plan
        asked = self.headers.get("Range")
        plan.ranges.append(asked)
        if plan.status is not None:
            self.send_error(plan.status)
            return
        is_same = self.headers.get("If-Range") == plan.tag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and is_same else 0
        if start >= len(plan.content):
            self.send_error(416)
            return
        body = plan.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", plan.tag)
        self.end_headers()
        if plan.cuts:
            plan.cuts -= 1
            body = body[: plan.cut_after]
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PAUSE_S", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    plan = Server()
    handler = type("PlannedHandler", (Handler,), {"plan": plan})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as listener:
        plan.url = f"http://127.0.0.1:{listener.server_port}/vjepa2/vitl.pt"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        listener.shutdown()
        thread.join()


def only_file(directory: Path) -> Path:
    (path,) = (p for p in directory.rglob("*") if p.is_file() and p.suffix != ".lock")
    return path


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.name == "vitl.pt"
    assert download(server.url, tmp_path) == path == only_file(tmp_path)
    assert server.ranges == [None]


def test_several_who_ask_at_once_share_one_download(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(server.url, tmp_path), range(4)))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == CONTENT
    assert len(server.ranges) == 3


def test_a_cut_connection_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = 3
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    only_file(tmp_path)


def test_a_later_call_goes_on_from_what_is_there(server: Server, tmp_path: Path) -> None:
    server.cuts, server.cut_after = 1_000, 0
    with pytest.raises(CheckpointNotFoundError, match="next call goes on"):
        download(server.url, tmp_path)
    server.cuts, server.cut_after = 1, 500_000
    server.ranges.clear()
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=500000-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_FRUITLESS_ATTEMPTS", 1)
    server.cuts, server.cut_after = 1, 500_000
    original = downloading._attempt
    attempts: list[bool] = []

    def change_after_first(*arguments: Any) -> bool:
        attempts.append(original(*arguments))
        server.content, server.tag = CONTENT[::-1], '"two"'
        return attempts[-1]

    monkeypatch.setattr(downloading, "_attempt", change_after_first)
    assert download(server.url, tmp_path).read_bytes() == CONTENT[::-1]
    assert attempts == [False, True]


def test_a_partial_file_that_is_already_whole_is_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    path = download(server.url, tmp_path)
    path.rename(path.with_name("vitl.pt.partial"))
    path.with_name("vitl.pt.etag").write_text(server.tag)
    assert download(server.url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("form", ["argument", "fragment", "upper case"])
def test_a_checksum_is_checked(server: Server, tmp_path: Path, form: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    if form == "fragment":
        path = download(f"{server.url}#sha256={digest}", tmp_path)
    else:
        path = download(server.url, tmp_path, digest.upper() if form == "upper case" else digest)
    assert path.read_bytes() == CONTENT


def test_a_wrong_checksum_deletes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match=hashlib.sha256(CONTENT).hexdigest()):
        download(server.url, tmp_path, "0" * 64)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_checksum_that_is_none_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="64 hex digits"):
        download(f"{server.url}#sha256=abc", tmp_path)
    assert not server.ranges


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (503, 5)])
def test_a_server_without_the_file_is_named(
    server: Server, tmp_path: Path, status: int, attempts: int
) -> None:
    server.status = status
    with pytest.raises(CheckpointNotFoundError, match=f"{status}"):
        download(server.url, tmp_path)
    assert len(server.ranges) == attempts


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/vitl.pt"
        with pytest.raises(CheckpointNotFoundError, match=r"(?s)vitl\.pt .*refused.* 0 bytes"):
            download(url, tmp_path)


def test_files_of_one_name_are_kept_apart_by_their_address(server: Server, tmp_path: Path) -> None:
    other = server.url.replace("vjepa2", "other")
    assert download(server.url, tmp_path) != download(other, tmp_path)


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "vjepa-planner"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


def test_a_url_loads_like_a_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    config = tiny().encoder
    assert isinstance(config, EncoderConfig)
    encoder = VisionTransformer(config)
    torch.save({"encoder": encoder.state_dict()}, tmp_path / "vit.pt")
    server.content = (tmp_path / "vit.pt").read_bytes()
    server.cuts = 1
    loaded = load_encoder(server.url, config=config)
    assert torch.equal(loaded.norm.weight, encoder.norm.weight)
