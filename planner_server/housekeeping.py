"""What is done from time to time while the service runs. Lives on the event loop."""

from __future__ import annotations

import asyncio
import logging
import time

from planner_server.service import PlannerService

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_PURGE_S = 60.0
_SAVE_USE_S = 60.0
_USES_SAVED = 4  # times at least within the time after which a session is forgotten


async def keep_house(service: PlannerService) -> None:
    """Forget idle sessions, follow other replicas, count, and delete what is too old, until cancelled."""
    next_purge_s = next_use_s = time.monotonic()
    save_use_s = min(_SAVE_USE_S, service.idle_s / _USES_SAVED)
    reported: str | None = None
    while True:
        try:
            service.sessions.forget_idle()
            service.sample()
            problem = service.archive.writer.problem
            if problem != reported:
                reported = problem
                service.archive.note("database", None, "server", problem or "takes records again")
            if time.monotonic() >= next_use_s:
                next_use_s = time.monotonic() + save_use_s
                service.adoption.save_use(within_s=save_use_s + _TICK_S)
            if time.monotonic() >= next_purge_s:
                next_purge_s = time.monotonic() + _PURGE_S
                service.archive.purge()
            await service.adoption.refresh()  # last, for it fails where the database is away
        except Exception:  # the top of a loop that must go on
            logger.exception("keeping house failed; it is tried again")
        await asyncio.sleep(_TICK_S)
