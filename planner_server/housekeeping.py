"""What is done from time to time while the service runs. Lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
import time

from planner_server.service import PlannerService

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_PURGE_S = 60.0


async def keep_house(service: PlannerService) -> None:
    """Forget idle sessions, follow other replicas, count, and delete what is too old, until cancelled."""
    next_purge_s = time.monotonic()
    reported: str | None = None
    while True:
        try:
            service.sessions.forget_idle()
            await service.adoption.refresh()
            service.sample()
            problem = service.archive.writer.problem
            if problem != reported:
                reported = problem
                service.archive.note("database", None, "server", problem or "takes records again")
            if time.monotonic() >= next_purge_s:
                next_purge_s = time.monotonic() + _PURGE_S
                service.archive.purge()
        except Exception:  # the top of a loop that must go on
            logger.exception("keeping house failed; it is tried again")
        await asyncio.sleep(_TICK_S)
