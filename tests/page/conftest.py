"""A browser of the system, pages that must not complain, and what the page is shown with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # where it is not installed, the test modules say so and are skipped
    from playwright.sync_api import Browser, BrowserContext, Page, Request

REPOSITORY = Path(__file__).parents[2]
DESKTOP = {"width": 1280, "height": 800}
WAIT_MS = 30_000  # for anything that depends on other processes of a busy machine


# Not longer than a module: while it runs, no other test of this process could use an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect

    from benchmarks.page_scene import BROWSERS, browsing, find_browser

    expect.set_options(timeout=WAIT_MS)
    executable = find_browser()
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with browsing(executable) as started:
        yield started


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    folder = REPOSITORY / "models" / "shipped"
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no shipped model in {folder}")
    return folder


class Witness:
    """Notes what a page complains about and whom it asks."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._hear)
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 - it wants a function

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} {message.location}")

    def strangers(self, url: str) -> list[str]:
        """Return the addresses asked that are not the server's."""
        known = (url, "data:", "blob:")
        return [each.url for each in self.requests if not each.url.startswith(known)]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, Witness]]]:
    """Open pages in contexts of their own (no shared storage), closed after the test."""
    contexts: list[BrowserContext] = []

    def start(url: str, path: str = "/", **options: Any) -> tuple[Page, Witness]:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        witness = Witness(page)
        page.goto(url + path)
        return page, witness

    yield start
    for context in contexts:
        context.close()
