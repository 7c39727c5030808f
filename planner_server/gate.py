"""Refuses HTTP requests that should not be here at all, before anything of them is read.

Without tokens only this machine may ask: not another one, not a web page that points its own name at this machine, and
not a proxy beside the server, behind which anybody may be. With or without them, no web page of another origin, which a
browser would let ask unasked.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from planner_server.errors import PlannerError, to_http
from planner_server.security.addresses import host_of, is_loopback

# What a proxy adds to a request that it passes on.
_FORWARDED = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
)


class GateMiddleware:
    """Let through what may come in, and answer the rest. Stands inside `RequestIdMiddleware`.

    Args:
        app: The application.
        is_open: Whether the server has no tokens, so that only this machine may ask.
    """

    def __init__(self, app: ASGIApp, *, is_open: bool) -> None:
        self._app = app
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, body = to_http(refusal, scope["state"]["request_id"])
        await JSONResponse(body, status)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlannerError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._is_open and not _is_local(scope, host):
            return PlannerError(
                "unauthorised",
                f"this server has no tokens and therefore serves its own machine only, not {host[:100]!r}; set "
                "PLANNER_TOKEN or PLANNER_TOKENS_FILE and start it again",
            )
        proxied = next((name for name in _FORWARDED if name in headers), None)
        if self._is_open and proxied is not None:
            return PlannerError(
                "unauthorised",
                f"this request came through a proxy (it carries {proxied}), and this server has no tokens: whoever "
                "reaches the proxy could move robots. Set PLANNER_TOKEN or PLANNER_TOKENS_FILE and start it again, or "
                "ask it directly from its own machine",
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return PlannerError(
                "forbidden", f"requests from web pages of {origin[:100]!r} are not served"
            )
        return None


def _is_local(scope: Scope, host: str) -> bool:
    server = scope.get("server")
    if server is None or server[1] is None:
        return True  # a socket file of this machine
    return is_loopback(server[0]) and (not host or is_loopback(host_of(host)))
