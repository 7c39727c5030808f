"""Two things every HTTP request gets: a name that its log lines and errors carry, and a limit to its size."""

from __future__ import annotations

import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planner_server.errors import PlannerError
from planner_server.logs import REQUEST_ID

REQUEST_ID_HEADER = "X-Request-ID"
_BODIES_AT_ONCE = 8  # of the largest size; many more of the usual one
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Keep the caller's X-Request-ID, or invent one; put it in `scope["state"]` and in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = (
            dict(scope["headers"]).get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1")
        )
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = request_id
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (REQUEST_ID_HEADER.encode(), request_id.encode())
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimitMiddleware:
    """Stop reading request bodies beyond a limit, for each and for all that are being served together.

    Args:
        app: The application.
        max_bytes: Largest body accepted.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; whoever reads the body gets `too_large` or `busy` as an exception."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held_bytes += size
            if received > self._max_bytes:
                raise PlannerError(
                    "too_large",
                    f"the request is larger than {self._max_bytes} bytes; send smaller or fewer images",
                )
            if self._held_bytes > _BODIES_AT_ONCE * self._max_bytes:
                raise PlannerError("busy", "too many uploads at once; try again in a second")
            return message

        try:
            await self._app(scope, receive_limited, send)
        finally:
            self._held_bytes -= received
