"""The page's own files: small, cached by their ETag, and unable to load or run anything from elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_CROPS_AT_ONCE = 1  # a decoded image of the largest size takes 50 MB
FOLDER = Path(__file__).parent / "static"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # kept, but asked about: 304 while the file is the same
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class PageFiles(StaticFiles):
    """Static files that carry the page's security headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, 304 where the browser has it, or 404."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def add_page(app: FastAPI) -> None:
    """Serve the page at `/` and its files below `/page`; they hold no secret, so nobody is asked for a token."""
    files = PageFiles(directory=FOLDER)
    app.state.crop_turns = asyncio.Semaphore(_CROPS_AT_ONCE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return RedirectResponse("/page/icon.svg")

    app.mount("/page", files, name="page")
