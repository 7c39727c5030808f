"""The same application as a Ray Serve deployment: `serve run configs/serve/cpu.yaml`.

A replica is the whole service: model, worker, HTTP and a ZMQ door on a port of its own. Sessions live in the database
that the replicas share; whoever sends a session's id in the header `serve_multiplexed_model_id` is led to the replica
that has it in memory. The only module that knows Ray.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from ray import serve
from starlette.middleware.base import RequestResponseEndpoint

from planner_server.app import create_app
from planner_server.logs import configure_logging
from planner_server.settings import load_settings

_SESSIONS_PER_REPLICA = 4096


@serve.multiplexed(max_num_models_per_replica=_SESSIONS_PER_REPLICA)  # type: ignore[untyped-decorator]
async def _hold(session_id: str) -> str:
    """Tell Ray that this replica has a session, so that its next request comes here, too."""
    return session_id


def build_app() -> FastAPI:
    """Build the application inside a replica, configured by its environment."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings)
    _Replica.app = app

    @app.middleware("http")
    async def keep_affinity(request: Request, call_next: RequestResponseEndpoint) -> Response:
        session_id = serve.get_multiplexed_model_id()
        if session_id:
            await _hold(session_id)
        response: Response = await call_next(request)
        response.headers["X-Replica"] = serve.get_replica_context().replica_id.unique_id
        return response

    return app


class _Replica:
    """Where the health check finds the application of this process."""

    app: FastAPI | None = None


@serve.deployment(name="planner")
@serve.ingress(build_app)
class Planner:
    """One replica."""

    def check_health(self) -> None:
        """Have Ray replace a replica whose model cannot plan.

        Raises:
            PlannerError: `not_ready`, after a warm-up that failed, and once the device has failed or the thread ended.
        """
        parts = getattr(getattr(_Replica.app, "state", None), "parts", None)
        if parts is not None:
            parts.service.worker.check_alive()


def build(_: dict[str, str]) -> serve.Application:
    """Return the application that a Serve configuration imports; its arguments are in the replicas' environment."""
    application: serve.Application = Planner.bind()  # type: ignore[attr-defined]
    return application
