"""The application: `uvicorn planner_server.app:app` starts everything, with no arguments and no configuration.

The way of one observation: `zmq_door` -> `service` -> `worker` -> `WorldModel.encode` -> `planning` -> reply.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from planner_server import __version__
from planner_server.errors import PlannerError, StartupError, to_http
from planner_server.http import api, probes
from planner_server.middleware import BodyLimitMiddleware, RequestIdMiddleware
from planner_server.served_model import load_served_model
from planner_server.service import PlannerService
from planner_server.sessions import SessionStore
from planner_server.settings import Settings, load_settings
from planner_server.uploads import describe
from planner_server.worker import PlanningWorker, WorkerOptions
from planner_server.zmq_door import ZmqDoor

logger = logging.getLogger(__name__)

_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 401: "unauthorised"}


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
    """Build the application; the model is loaded when it starts."""
    app = PlannerApp(
        title="V-JEPA 2-AC planner",
        version=__version__,
        description=(
            "Plans robot actions from a camera frame, the end effector's pose and a goal image. "
            "Robots talk to the ZMQ endpoint that GET /v1/model names; this API is for set-up and single plans."
        ),
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.include_router(probes)
    app.include_router(api)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_request_bytes)
    app.add_middleware(RequestIdMiddleware)
    app.add_exception_handler(PlannerError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(Exception, _answer_error)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model, open the robots' door, and close both at the end."""
    settings: Settings = app.state.settings
    worker = PlanningWorker(partial(load_served_model, settings), _worker_options(settings))
    try:
        model = await asyncio.wrap_future(worker.start())
        service = PlannerService(
            model=model,
            worker=worker,
            sessions=SessionStore(settings.max_sessions, settings.session_idle_s),
            planners=settings.build_planners(),
            default_planner=settings.default_planner,
            token=settings.token.get_secret_value() if settings.token else None,
        )
        door = ZmqDoor(service, settings.zmq_endpoint)
    except StartupError as error:
        app.state.startup_error = error
        worker.stop()
        raise
    app.state.service, app.state.zmq_endpoint = service, door.endpoint
    door.start()
    logger.info(
        "%s (%d weights) on %s in %s", model.name, model.parameters, model.device, model.precision
    )
    logger.info("robots connect to %s", door.endpoint)
    try:
        yield
    finally:
        await asyncio.to_thread(worker.stop)
        await door.close()


def _worker_options(settings: Settings) -> WorkerOptions:
    return WorkerOptions(
        horizon=settings.horizon,
        deadline_ms=settings.deadline_ms,
        torch_threads=settings.torch_threads,
        goal_cache=settings.goal_cache,
        max_waiting=settings.max_waiting,
    )


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Turn whatever a handler raised into `{code, message, request_id}`."""
    request_id: str = getattr(request.state, "request_id", "unknown")
    if isinstance(error, RequestValidationError):
        error = PlannerError("invalid_request", describe(error.errors()))
    elif isinstance(error, HTTPException):
        code = _CODE_OF_STATUS.get(error.status_code, "invalid_request")
        text = f"{request.method} {request.url.path}: {error.detail}; see /docs for what exists"
        error = PlannerError(code, text)
    elif not isinstance(error, PlannerError):
        logger.error("request %s failed", request_id, exc_info=error)
        text = f"an error in the server; its log has the details under {request_id}"
        error = PlannerError("internal_error", text)
    status, body = to_http(error, request_id)
    return JSONResponse(body, status)


def _configure_logging(level: str) -> None:
    """Show this package's log lines; uvicorn configures only its own."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("planner_server")
    package.addHandler(handler)
    package.setLevel(level)
    package.propagate = False


def _create_default_app() -> PlannerApp:
    try:
        settings = load_settings()
    except StartupError as error:
        sys.exit(error.message)
    _configure_logging(settings.log_level)
    return create_app(settings)


def __getattr__(name: str) -> PlannerApp:
    """Build `app` when it is asked for, so that tests may import this module without the environment's settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = _create_default_app()
    app: PlannerApp = globals()["app"]
    return app
