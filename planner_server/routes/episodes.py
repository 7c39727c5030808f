"""Recorded episodes of the folder that `PLANNER_EPISODES` names: a list, frames, a report, a download."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

from planner_server.episode_folder import (
    RecordedEpisode,
    find_episode,
    list_episodes,
    read_report,
    zip_episode,
)
from planner_server.episode_frames import read_episode_frame, read_motion
from planner_server.errors import PlannerError
from planner_server.routes.access import Configured, Observer
from planner_server.schemas import ErrorAnswer
from planner_server.security.tickets import Tickets
from planner_server.settings import Settings

router = APIRouter(prefix="/v1/episodes", tags=["history"])
reports = APIRouter(tags=["history"])

_JPEG_QUALITY = 85
# A report shows its own pictures and nothing else: no script, no network, no look at the page that opened it.
_REPORT_HEADERS = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_ANY_ERROR: dict[str, Any] = {"model": ErrorAnswer, "description": "Any error"}
Name = Annotated[str, PathParameter(max_length=1000, description="As the list gives it.")]


class EpisodeInfo(BaseModel):
    """A recorded episode."""

    name: str
    recorded_at: datetime
    frames: int | None
    cameras: list[str]
    task: str
    verdict: bool | None = Field(description="Whether the task was done; null: nobody said.")
    headline: str
    session_id: str | None = Field(description="Session that planned it.")
    bytes: int
    has_report: bool


class ReplayInfo(BaseModel):
    """A report that judges planners on recorded episodes; read it under `/v1/episodes/{name}/report`."""

    name: str
    made_at: datetime


class EpisodeList(BaseModel):
    """What lies in the episodes folder, newest first."""

    folder: str | None = Field(description="Name of the folder; null: PLANNER_EPISODES names none.")
    episodes: list[EpisodeInfo]
    replays: list[ReplayInfo]


class ReportLink(BaseModel):
    """An address that works once."""

    url: str


class EpisodeDetail(EpisodeInfo):
    """A recorded episode with its motion; row i of everything belongs to frame i."""

    t_s: list[float] = Field(description="From the beginning [s].")
    states: list[list[float]]
    energies: list[float] | None = Field(description="Distance of each frame to its goal.")
    goal_indices: list[int] | None


@router.get("")
async def get_episodes(
    settings: Configured, _: Observer, limit: Annotated[int, Query(ge=1, le=2000)] = 200
) -> EpisodeList:
    """List the recorded episodes, and the replay reports that lie beside them."""
    if settings.episodes is None:
        return EpisodeList(folder=None, episodes=[], replays=[])
    episodes, replays = await asyncio.to_thread(list_episodes, settings.episodes)
    return EpisodeList(
        folder=settings.episodes.name,
        episodes=[EpisodeInfo(**_fields(each)) for each in episodes[:limit]],
        replays=[
            ReplayInfo(name=each.name, made_at=_date(each.made_at)) for each in replays[:limit]
        ],
    )


@router.get(
    "/{name:path}/frames/{index}",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, "default": _ANY_ERROR},
)
async def get_episode_frame(
    settings: Configured,
    _: Observer,
    name: Name,
    index: Annotated[int, PathParameter(ge=-1, le=10_000_000)],
    camera: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Return one frame as JPEG; -1 is the last."""
    root = _root(settings)
    return Response(
        await asyncio.to_thread(_jpeg, root, name, index, camera), media_type="image/jpeg"
    )


@router.get(
    "/{name:path}/report",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {}}}, "default": _ANY_ERROR},
)
async def get_report(settings: Configured, _: Observer, name: Name) -> HTMLResponse:
    """Return the report of an episode, or of a replay; it runs no script and loads nothing."""
    return await _report(settings, name)


@router.post("/{name:path}/report-link", responses={"default": _ANY_ERROR})
async def make_report_link(
    request: Request, settings: Configured, _: Observer, name: Name
) -> ReportLink:
    """Make an address that shows a report once, within a minute, to whoever opens it: a token stands in no address."""
    await asyncio.to_thread(read_report, _root(settings), name)
    tickets: Tickets = request.app.state.tickets
    return ReportLink(url=f"/v1/reports/{tickets.issue(name)}")


@reports.get(
    "/v1/reports/{ticket}",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {}}}, "default": _ANY_ERROR},
)
async def open_report(
    request: Request,
    settings: Configured,
    ticket: Annotated[str, PathParameter(max_length=64)],
) -> HTMLResponse:
    """Show the report that a link was made for."""
    tickets: Tickets = request.app.state.tickets
    name = tickets.redeem(ticket)
    if name is None:
        raise PlannerError(
            "not_found", "this link has been used, or is older than a minute; open the report again"
        )
    return await _report(settings, name)


@router.get(
    "/{name:path}/download",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}, "default": _ANY_ERROR},
)
async def download_episode(settings: Configured, _: Observer, name: Name) -> StreamingResponse:
    """Return an episode's folder as a zip file."""
    episode = await asyncio.to_thread(find_episode, _root(settings), name)
    pieces = await asyncio.to_thread(zip_episode, episode)
    return StreamingResponse(
        pieces,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{_file_name(episode)}"'},
    )


@router.get("/{name:path}", responses={"default": _ANY_ERROR})
async def get_episode(settings: Configured, _: Observer, name: Name) -> EpisodeDetail:
    """Describe an episode and tell its motion."""
    root = _root(settings)
    episode = await asyncio.to_thread(find_episode, root, name)
    motion = await asyncio.to_thread(read_motion, root, name)
    return EpisodeDetail(
        **_fields(episode) | {"frames": len(motion.times_s), "cameras": list(motion.cameras)},
        t_s=motion.times_s,
        states=motion.states,
        energies=motion.energies,
        goal_indices=motion.goal_indices,
    )


async def _report(settings: Settings, name: str) -> HTMLResponse:
    page = await asyncio.to_thread(read_report, _root(settings), name)
    return HTMLResponse(page, headers=_REPORT_HEADERS)


def _root(settings: Settings) -> Path:
    if settings.episodes is None:
        raise PlannerError(
            "not_found",
            "this server knows no recorded episodes; set PLANNER_EPISODES to their folder",
        )
    return settings.episodes


def _jpeg(root: Path, name: str, index: int, camera: str | None) -> bytes:
    frame = read_episode_frame(root, name, index, camera)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return bytes(cv2.imencode(".jpg", frame[..., ::-1], quality)[1].tobytes())


def _fields(episode: RecordedEpisode) -> dict[str, Any]:
    return {
        "name": episode.name,
        "recorded_at": _date(episode.recorded_at),
        "frames": episode.frames,
        "cameras": episode.cameras,
        "task": episode.task,
        "verdict": episode.success,
        "headline": episode.headline,
        "session_id": episode.session_id,
        "bytes": episode.size_bytes,
        "has_report": episode.has_report,
    }


def _file_name(episode: RecordedEpisode) -> str:
    """Return a name that fits into a header and every file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", episode.name) + ".zip"


def _date(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, timezone.utc)
