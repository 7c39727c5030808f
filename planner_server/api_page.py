"""The interactive description of the API at `/docs`, with no script from elsewhere.

FastAPI's own page runs whatever a content delivery network sends, on the origin from which robots are ordered about.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_SWAGGER_UI = Path(fastapi_offline.__file__).parent / "static"
_HEADERS = {
    # FastAPI starts Swagger UI by an inline script.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def add_api_page(app: FastAPI) -> None:
    """Serve the description at `/docs`; its addresses are relative, so that a proxy may put the server below a path."""

    @app.get("/docs", include_in_schema=False)
    async def describe() -> Response:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/files/swagger-ui-bundle.js",
            swagger_css_url="docs/files/swagger-ui.css",
            swagger_favicon_url="page/icon.svg",
        )
        page.headers.update(_HEADERS)
        return page

    app.mount("/docs/files", StaticFiles(directory=_SWAGGER_UI), name="swagger-ui")
