"""The service's log lines: which request they belong to, and how they are written."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")


class _RequestFilter(logging.Filter):
    """Gives every line the id of the request that it was written for."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        return True


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: str, style: str) -> None:
    """Show this package's log lines; uvicorn configures only its own.

    Args:
        level: Name of the lowest level shown.
        style: text or json.
    """
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s")
    handler.setFormatter(_JsonFormatter() if style == "json" else text)
    handler.addFilter(_RequestFilter())
    package = logging.getLogger("planner_server")
    package.handlers = [handler]
    package.setLevel(level)
    package.propagate = False
