"""From uploaded files to goals: decoded one at a time, encoded at once, and kept only as the files they were.

A decoded image of the largest size takes 50 MB, so at most two exist in the whole service at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import cv2

from planner_server.episode_frames import read_episode_frame
from planner_server.errors import PlannerError
from planner_server.goal_tokens import digest_of
from planner_server.goals import GoalImage, SubGoal
from planner_server.images import check_image, decode_image, media_type_of
from planner_server.plan_request import Frame
from planner_server.questions import EpisodeFrame
from planner_server.service import PlannerService
from planner_server.uploads import GoalDraft

_AT_ONCE = 2


class GoalMaker:
    """Turns drafts into goals.

    Args:
        service: Encodes.
        episodes: Folder of recorded episodes; None where there is none.
    """

    def __init__(self, service: PlannerService, episodes: Path | None) -> None:
        self._service = service
        self._episodes = episodes
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @contextlib.asynccontextmanager
    async def _frame(self, data: bytes, name: str) -> AsyncIterator[Frame]:
        """Decode an image off the event loop, and hold one of the few places until it is no longer needed."""
        async with self._turns:
            yield await asyncio.to_thread(decode_image, data, name)

    async def goals(self, drafts: Sequence[GoalDraft]) -> list[SubGoal]:
        """Decode, check and encode goals.

        Raises:
            PlannerError: `invalid_frame` or `invalid_request`.
        """
        return [await self._goal(draft, f"goal {index}") for index, draft in enumerate(drafts)]

    async def goal(self, data: bytes) -> SubGoal:
        """Decode and encode a goal of one image."""
        return SubGoal((await self._image(data, "goal"),))

    async def _goal(self, draft: GoalDraft, name: str) -> SubGoal:
        weights = draft.rules.weights
        if weights is not None and len(weights) != len(draft.images):
            raise PlannerError(
                "invalid_request",
                f"{name} has {len(draft.images)} image(s) and {len(weights)} weight(s); send one per image",
            )
        images = [await self._image(source, name) for source in draft.images]
        mask = None
        if draft.mask is not None:
            mask = await self._mask(draft.mask, f"mask of {name}")
            if (mask.width, mask.height) != (images[0].width, images[0].height):
                raise PlannerError(
                    "invalid_frame",
                    f"the mask of {name} is {mask.width} x {mask.height} px, its image {images[0].width} x "
                    f"{images[0].height} px; they must have the same shape",
                )
        return SubGoal(tuple(images), draft.rules, mask)

    async def _image(self, source: bytes | EpisodeFrame, name: str) -> GoalImage:
        if isinstance(source, EpisodeFrame):
            source = await self._recorded(source)
        async with self._frame(source, name) as frame:
            sha256 = await self._service.encode_goal(frame)
            return _describe(source, frame, sha256)

    async def _mask(self, data: bytes, name: str) -> GoalImage:
        async with self._frame(data, name) as frame:
            return _describe(data, frame, await asyncio.to_thread(digest_of, frame))

    async def _recorded(self, source: EpisodeFrame) -> bytes:
        if self._episodes is None:
            raise PlannerError(
                "invalid_request",
                "this server has no folder of recorded episodes; set PLANNER_EPISODES, or send the image",
            )
        frame = await asyncio.to_thread(
            read_episode_frame, self._episodes, source.episode, source.frame, source.camera
        )
        return await asyncio.to_thread(_png, frame)


def frame_of(data: bytes) -> Callable[[], Frame]:
    """Return what decodes a frame in the worker, after a look at the file's header.

    Raises:
        PlannerError: `invalid_frame`.
    """
    check_image(data, "frame")
    return lambda: decode_image(data, "frame")


def _describe(data: bytes, frame: Frame, sha256: str) -> GoalImage:
    height, width = frame.shape[:2]
    return GoalImage(sha256, width, height, media_type_of(data), data)


def _png(frame: Frame) -> bytes:
    return bytes(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
