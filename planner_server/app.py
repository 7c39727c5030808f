"""The application: `uvicorn planner_server.app:app` starts everything, with no arguments and no configuration.

The way of one observation: `zmq_door` -> `dialogue` -> `service` -> `worker` -> `batch_planner` -> `planning` -> reply.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from planner_server import __version__
from planner_server.api_page import add_api_page
from planner_server.errors import PlannerError, StartupError, to_http
from planner_server.gate import GateMiddleware
from planner_server.logs import configure_logging
from planner_server.middleware import BodyLimitMiddleware, RequestIdMiddleware
from planner_server.page import routes as page
from planner_server.page.assets import add_page
from planner_server.routes import episodes, history, operation, orders, plans, probes, sessions
from planner_server.schemas import ErrorAnswer
from planner_server.security.addresses import is_loopback, uvicorn_host
from planner_server.security.tickets import Tickets
from planner_server.settings import Settings, load_settings
from planner_server.start import Parts, known_tokens, serving
from planner_server.uploads import describe

logger = logging.getLogger(__name__)

_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 401: "unauthorised"}
_ANY_ERROR: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorAnswer, "description": "Any error"}
}


class PlannerApp(FastAPI):
    """FastAPI whose refusal to start is one clear line instead of a traceback."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the application's own start and end."""
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return

        async def send_plainly(message: Message) -> None:
            reason: StartupError | None = getattr(self.state, "startup_error", None)
            if message["type"] == "lifespan.startup.failed" and reason is not None:
                message["message"] = reason.message
            await send(message)

        await super().__call__(scope, receive, send_plainly)


def create_app(settings: Settings) -> PlannerApp:
    """Build the application; the model is loaded when it starts.

    Raises:
        StartupError: The tokens file cannot be used, or robots could come in from outside without a token.
    """
    tokens = known_tokens(settings)
    app = PlannerApp(
        title="V-JEPA 2-AC planner",
        version=__version__,
        description=(
            "Plans robot actions from a camera frame, the end effector's pose and a goal image. "
            "Robots talk to the ZMQ endpoint that GET /v1/model names; this API is for set-up, single plans and people."
        ),
        lifespan=_lifespan,
        docs_url=None,  # ours is `add_api_page`
        redoc_url=None,
    )
    app.state.settings, app.state.tokens = settings, tokens
    app.state.tickets = Tickets()
    app.include_router(probes.probes)
    for part in (sessions, operation, orders, plans, history, episodes, page):
        app.include_router(part.router, responses=_ANY_ERROR)
    for router in (probes.model, episodes.reports):
        app.include_router(router, responses=_ANY_ERROR)
    add_page(app)
    add_api_page(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_request_bytes)
    app.add_middleware(GateMiddleware, is_open=tokens.is_open)
    app.add_middleware(RequestIdMiddleware)
    for kind in (PlannerError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer_error)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model, open the database and the robots' door, and close all of it at the end."""
    async with AsyncExitStack() as stack:
        try:
            running = serving(app.state.settings, app.state.tokens)
            app.state.parts = await stack.enter_async_context(running)
        except StartupError as error:
            app.state.startup_error = error
            raise
        yield


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Turn whatever a handler raised into `{code, message, request_id}`."""
    request_id: str = getattr(request.state, "request_id", "unknown")
    if isinstance(error, RequestValidationError):
        error = PlannerError("invalid_request", describe(error.errors()))
    elif isinstance(error, HTTPException):
        code = _CODE_OF_STATUS.get(error.status_code, "invalid_request")
        text = (
            f"{request.method} {request.url.path[:200]}: {error.detail}; see /docs for what exists"
        )
        error = PlannerError(code, text)
    elif not isinstance(error, PlannerError):
        logger.error("request %s failed", request_id, exc_info=error)
        text = f"an error in the server; its log has the details under {request_id}"
        error = PlannerError("internal_error", text)
    parts: Parts | None = getattr(request.app.state, "parts", None)
    if parts is not None:
        parts.service.metrics.count_error("http", error.code)
    status, body = to_http(error, request_id)
    return JSONResponse(body, status, _headers(error))


def _headers(error: PlannerError) -> dict[str, str]:
    if error.code == "unauthorised":
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": "1"} if error.code in ("rate_limited", "busy", "not_ready") else {}


def _create_default_app() -> PlannerApp:
    try:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        app = create_app(settings)
        _check_http_host(app)
    except StartupError as error:
        sys.exit(error.message)
    return app


def _check_http_host(app: PlannerApp) -> None:
    """Refuse to start where uvicorn was told to listen to other machines and there is no token."""
    host = uvicorn_host(sys.argv)
    if host is not None and not is_loopback(host) and app.state.tokens.is_open:
        raise StartupError(
            f"--host {host} lets other machines in, and there is no token to keep strangers out. Set PLANNER_TOKEN "
            "or PLANNER_TOKENS_FILE (`python -m planner_server token NAME` makes one), or listen on 127.0.0.1"
        )


def __getattr__(name: str) -> PlannerApp:
    """Build `app` when it is asked for, so that tests may import this module without the environment's settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = _create_default_app()
    app: PlannerApp = globals()["app"]
    return app
