"""What the page asks beyond the API for robots and scripts: who it is, what a robot sees, and what it could do next."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, cast

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from planner_server.errors import PlannerError
from planner_server.page.crops import crop_of
from planner_server.page.joint_stream import MOST_SESSIONS, follow
from planner_server.page.moments import imagine, look_of, measure_slice
from planner_server.page.questions import (
    ImagineAnswer,
    ImagineJson,
    SliceAnswer,
    SliceJson,
    WhoAmI,
)
from planner_server.plan_request import Frame
from planner_server.routes.access import Observer, Planner, Running, Service, identify
from planner_server.routes.sessions import SessionId, describe
from planner_server.schemas import ErrorAnswer
from planner_server.security.tokens import Caller
from planner_server.start import Parts
from robot_client.protocol import MAX_GOALS

router = APIRouter(prefix="/v1", tags=["page"])

_JPEG_QUALITY = 92
_ERROR = {"model": ErrorAnswer, "description": "Any error"}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_Names = Annotated[
    list[Annotated[str, Query(max_length=64)]],
    Query(min_length=1, max_length=MOST_SESSIONS, alias="session"),
]


@router.get("/whoami")
async def who_am_i(service: Service, caller: Annotated[Caller, Depends(identify)]) -> WhoAmI:
    """Say who the token belongs to and what it may do."""
    return WhoAmI(
        name=caller.name,
        role=cast(Literal["observe", "plan", "operate"], caller.role.name.lower()),
        is_open=service.tokens.is_open,
        has_decoder=service.model.decoder is not None,
    )


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events until all of the sessions are over",
            "content": {
                "text/event-stream": {"example": 'event: end\ndata: {"session": "..."}\n\n'}
            },
        },
        "default": _ERROR,
    },
)
async def stream(parts: Running, _: Observer, sessions: _Names) -> StreamingResponse:
    """Follow several sessions over one connection: the events of each, with `session` in their data."""
    names = list(dict.fromkeys(sessions))
    for name in names:
        with suppress(PlannerError):  # what cannot be had is told to have ended
            await parts.service.find_session(name)
    parts.service.streams.check_room(len(names))
    return StreamingResponse(
        follow(parts.service.streams, names, partial(_described, parts)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(
    "/sessions/{session_id}/frame",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}, "image/jpeg": {}}, "description": "The frame"},
        "default": _ERROR,
    },
)
async def get_frame(
    service: Service,
    _: Observer,
    session_id: SessionId,
    output: Annotated[Literal["png", "jpeg"], Query(alias="format")] = "png",
    seq: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Return the frame that was planned for last; PNG is exact, JPEG smaller. `X-Seq` names its observation.

    `seq` asks for a certain one: the newest, or the one that was asked about last.
    """
    look = look_of(await service.find_session(session_id), seq)
    data = await asyncio.to_thread(_encoded, look.read_frame, output)
    headers = {"X-Seq": str(look.seq), "Cache-Control": "no-store"}
    return Response(data, media_type=f"image/{output}", headers=headers)


@router.post(
    "/crop",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "What the model sees of it"},
        "default": _ERROR,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "An image as the body.",
            "content": {"image/png": _FILE, "image/jpeg": _FILE, "image/webp": _FILE},
        }
    },
)
async def crop(request: Request, service: Service, _: Observer) -> Response:
    """Show an image exactly as the model sees it; `X-Crop` says which part (left, top, right, bottom) of `X-Size`."""
    data = await request.body()
    model = service.model
    geometry = model.world_model.config.frame_geometry
    async with request.app.state.crop_turns:
        seen = await asyncio.to_thread(crop_of, data, model.frame_size, geometry)
    headers = {"X-Crop": ",".join(map(str, seen.box)), "X-Size": ",".join(map(str, seen.size))}
    return Response(seen.picture, media_type="image/png", headers=headers)


@router.get(
    "/sessions/{session_id}/goals/{index}/mask",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "The file as it was sent"},
        "default": _ERROR,
    },
)
async def get_goal_mask(
    service: Service,
    _: Observer,
    session_id: SessionId,
    index: Annotated[int, Path(ge=0, lt=MAX_GOALS)],
) -> Response:
    """Return the mask of a goal as it was sent."""
    session = await service.find_session(session_id)
    mask = session.goals[index].mask if index < len(session.goals) else None
    if mask is None:
        raise PlannerError("not_found", f"there is no goal {index} with a mask in this session")
    return Response(mask.data, media_type=mask.media_type)


@router.post("/sessions/{session_id}/imagine")
async def imagine_in_session(
    service: Service, _: Planner, session_id: SessionId, question: ImagineJson | None = None
) -> ImagineAnswer:
    """Imagine actions from the session's newest frame: energies, where they come from, and pictures of it."""
    session = await service.find_session(session_id)
    look, index, actions, found = await imagine(service, session, question or ImagineJson())
    fields = dict(vars(found))
    if found.pictures is not None:
        fields["pictures"] = [base64.b64encode(picture).decode() for picture in found.pictures]
    return ImagineAnswer(seq=look.seq, goal_index=index, actions=actions.tolist(), **fields)


@router.post("/sessions/{session_id}/energy-landscape")
async def slice_in_session(
    service: Service, _: Planner, session_id: SessionId, question: SliceJson
) -> SliceAnswer:
    """Measure the energy over a grid of single actions from the session's newest frame, with its goal and mask.

    It is done a few actions at a time, so that no robot waits for the whole of it.
    """
    session = await service.find_session(session_id)
    return await measure_slice(service, session, question)


def _described(parts: Parts, name: str) -> dict[str, Any] | None:
    session = parts.service.sessions.peek(name)
    return None if session is None else describe(parts, session).model_dump(mode="json")


def _encoded(read_frame: Callable[[], Frame], kind: str) -> bytes:
    bgr = np.ascontiguousarray(read_frame()[..., ::-1])
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if kind == "jpeg" else []
    return bytes(cv2.imencode(".jpg" if kind == "jpeg" else ".png", bgr, quality)[1].tobytes())
