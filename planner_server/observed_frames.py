"""Small pictures of what robots saw, kept for the history: made in the background, so that no plan waits for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from planner_server.display import thumbnail
from planner_server.errors import PlannerError
from planner_server.plan_request import Frame, Planned
from planner_server.store.history import History

logger = logging.getLogger(__name__)

_MOST_WAITING = 16  # frames that may lie in memory until their picture is made


class FrameKeeper:
    """Keeps a picture of the frame behind every plan; where it cannot keep up, plans stay without one.

    Args:
        history: Where the pictures go.
        is_keeping: Whether any are wanted.
    """

    def __init__(self, history: History, *, is_keeping: bool) -> None:
        self._history = history
        self._is_keeping = is_keeping
        self._pool = ThreadPoolExecutor(1, "observed-frames")
        self._waiting = 0

    def keep(self, planned: Planned, read_frame: Callable[[], Frame]) -> None:
        """Keep the frame of a plan; called on the event loop, returns at once.

        Args:
            planned: The plan, which may have the picture already.
            read_frame: Returns the frame; called in a thread.
        """
        if not self._is_keeping:
            return
        if planned.display is not None:
            self._history.save_frame(planned.frame_sha256, planned.display.thumbnail)
        elif self._waiting < _MOST_WAITING:
            self._waiting += 1
            made = asyncio.get_running_loop().run_in_executor(
                self._pool, self._make, planned.frame_sha256, read_frame
            )
            made.add_done_callback(self._finish)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _make(self, sha256: str, read_frame: Callable[[], Frame]) -> None:
        self._history.save_frame(sha256, thumbnail(read_frame()))

    def _finish(self, made: asyncio.Future[None]) -> None:
        self._waiting -= 1
        error = None if made.cancelled() else made.exception()
        if isinstance(error, PlannerError):
            logger.warning("a frame is not kept: %s", error.message)
        elif error is not None:
            logger.error("a frame is not kept", exc_info=error)
