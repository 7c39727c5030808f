"""The package's error and its two translations: to an HTTP answer and to a wire message.

Everything refused on purpose is a `PlannerError`: a code for programs, and a message for people that names the
offending value, what is allowed and what to do next.
"""

from __future__ import annotations

from typing import TypedDict

from robot_client.protocol import ErrorReply

_MAX_WIRE_MESSAGE = 4000

HTTP_STATUS = {
    "invalid_request": 422,
    "invalid_state": 422,
    "invalid_frame": 422,
    "unknown_planner": 422,
    "unauthorised": 401,
    "forbidden": 403,
    "unknown_session": 404,
    "session_ended": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "no_goal": 409,
    "paused": 409,
    "stopped": 409,
    "superseded": 409,
    "session_taken": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "too_many_sessions": 429,
    "rate_limited": 429,
    "not_ready": 503,
    "busy": 503,
    "shutting_down": 503,
    "planner_failed": 500,
    "internal_error": 500,
}


class PlannerError(Exception):
    """Base of everything the service refuses on purpose.

    Args:
        code: A key of `HTTP_STATUS`.
        message: Offending value, allowed values and remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StartupError(PlannerError):
    """The service cannot start: settings, weights, device, database or port."""

    def __init__(self, message: str) -> None:
        super().__init__("not_ready", message)


class SupersededError(PlannerError):
    """A newer observation of the same session arrived before this one was planned; over ZMQ nobody is told."""

    def __init__(self) -> None:
        super().__init__("superseded", "a newer observation of this session took its place")


class ErrorBody(TypedDict):
    """JSON body of every HTTP error."""

    code: str
    message: str
    request_id: str


def to_http(error: PlannerError, request_id: str) -> tuple[int, ErrorBody]:
    """Return the HTTP status and JSON body of an error."""
    body = ErrorBody(code=error.code, message=error.message, request_id=request_id)
    return HTTP_STATUS.get(error.code, 500), body


def to_wire(error: PlannerError, seq: int | None = None) -> ErrorReply:
    """Return the wire message of an error about observation `seq`, where there is one."""
    return ErrorReply(code=error.code, message=error.message[:_MAX_WIRE_MESSAGE], seq=seq)
