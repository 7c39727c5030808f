"""Large files over HTTP: resumed where a connection broke, checked, and complete or not there at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Final

from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.errors import CheckpointNotFoundError, CorruptCheckpointError

logger = logging.getLogger(__name__)

CACHE_VARIABLE: Final = "VJEPA_PLANNER_CACHE"

_SCHEMES = ("https://", "http://")
_CHUNK = 1 << 20  # bytes
_TIMEOUT_S = 30.0
_FRUITLESS_ATTEMPTS = 5
_PAUSE_S = 1.0  # longer after every attempt that brought nothing
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")


def is_url(source: str) -> bool:
    """Tell whether a source is a URL that `download` takes."""
    return source.startswith(_SCHEMES)


def cache_directory() -> Path:
    """Return where downloads are kept: `$VJEPA_PLANNER_CACHE`, or below the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "vjepa-planner"


def download(url: str, directory: Path | None = None, sha256: str | None = None) -> Path:
    """Download a file once, and return where it is.

    An interrupted download goes on where it ended, in this call and in later ones, unless the file
    changed on the server meanwhile.

    Args:
        url: Where the file is; `#sha256=<64 hex digits>` at the end is a checksum.
        directory: Where to keep it; `cache_directory()` by default. Files of one name and
            different addresses are kept apart.
        sha256: What the file must hash to, as 64 hex digits.

    Raises:
        CheckpointNotFoundError: The server cannot be reached, or has no such file.
        CorruptCheckpointError: The file is not what the checksum says; it is deleted.
    """
    address, _, fragment = url.partition("#")
    expected = sha256 or _checksum_in(fragment, url)
    target = _place(address, directory or cache_directory())
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):  # several processes may ask at once
            if not target.is_file():
                _fetch(address, target)
    if expected is not None and (found := _hash(target)) != expected.lower():
        target.unlink()
        raise CorruptCheckpointError(
            f"{url} has the SHA-256 {found}, expected {expected.lower()}; the download was deleted: "
            "try again, and check the address"
        )
    return target


def _fetch(url: str, target: Path) -> None:
    """Fill `target`, attempt after attempt, as long as every few of them bring something."""
    partial = target.with_name(f"{target.name}.partial")
    fruitless = 0
    with _progress_bar(target.name) as (bar, task):
        while True:
            before = _size(partial)
            try:
                if _attempt(url, partial, bar, task):
                    break
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                if error.code == 416:  # nothing left to send, or another file: begin again
                    partial.unlink(missing_ok=True)
                elif error.code < 500:  # the server says that asking again is no use
                    raise CheckpointNotFoundError(
                        f"{url} cannot be downloaded: {error.code} {error.reason}; check the address"
                    ) from error
                reason = f"{error.code} {error.reason}"
            except (OSError, HTTPException) as error:
                reason = str(error)
            fruitless = fruitless + 1 if _size(partial) <= before else 0
            if fruitless == _FRUITLESS_ATTEMPTS:
                raise CheckpointNotFoundError(
                    f"{url} cannot be downloaded ({reason}); {_size(partial)} bytes are kept in "
                    f"{partial}, and the next call goes on from there"
                )
            logger.warning("download of %s interrupted: %s; going on", url, reason)
            time.sleep(_PAUSE_S * fruitless)
    partial.replace(target)
    _tag_file(partial).unlink(missing_ok=True)


def _attempt(url: str, partial: Path, bar: Progress, task: TaskID) -> bool:
    """Fetch what is missing in `partial`; return whether it is complete."""
    request = urllib.request.Request(url, headers=_range_headers(partial))  # noqa: S310  see is_url
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310  see is_url
        is_resumed = response.status == 206  # partial content
        start = _size(partial) if is_resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        _tag_file(partial).write_text(tag)
        bar.update(task, completed=start, total=total)
        with partial.open("ab" if is_resumed else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                bar.advance(task, len(chunk))
    return total is None or _size(partial) == total


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(_CHUNK):
        yield chunk


def _range_headers(partial: Path) -> dict[str, str]:
    """Ask for the rest of what is there, if the server's file is still the same."""
    tag = _tag_file(partial).read_text() if _tag_file(partial).is_file() else ""
    size = _size(partial)
    if not size or not tag or tag.startswith("W/"):  # a weak tag does not promise equal bytes
        return {}
    return {"Range": f"bytes={size}-", "If-Range": tag}


def _place(url: str, directory: Path) -> Path:
    """Return where the file of a URL is kept; the address is part of it."""
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "checkpoint.pt"
    return directory / hashlib.sha256(url.encode()).hexdigest()[:12] / name


def _checksum_in(fragment: str, url: str) -> str | None:
    if not fragment:
        return None
    match = _CHECKSUM.fullmatch(fragment)
    if match is None:
        raise CheckpointNotFoundError(
            f"{url} ends in {fragment!r}; expected #sha256= and 64 hex digits, or nothing"
        )
    return match[1]


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag_file(partial: Path) -> Path:
    return partial.with_suffix(".etag")


@contextmanager
def _progress_bar(name: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task(name, total=None)
