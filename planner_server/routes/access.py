"""Who asks, what they may do, and how often: the dependencies of every route below /v1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from planner_server.errors import PlannerError
from planner_server.goal_images import GoalMaker
from planner_server.security.tokens import Caller, Role
from planner_server.service import PlannerService
from planner_server.settings import Settings
from planner_server.start import Parts

_bearer = HTTPBearer(auto_error=False, description="Only where the server has tokens.")


def get_parts(request: Request) -> Parts:
    """Return what the application's start-up built."""
    parts: Parts = request.app.state.parts
    return parts


def get_service(request: Request) -> PlannerService:
    """Return the service that the application's start-up built."""
    return get_parts(request).service


def get_settings(request: Request) -> Settings:
    """Return the application's settings."""
    settings: Settings = request.app.state.settings
    return settings


def get_goal_maker(request: Request) -> GoalMaker:
    """Return what turns uploads into goals."""
    return get_parts(request).goal_maker


Running = Annotated[Parts, Depends(get_parts)]
Service = Annotated[PlannerService, Depends(get_service)]
Configured = Annotated[Settings, Depends(get_settings)]
GoalUploads = Annotated[GoalMaker, Depends(get_goal_maker)]


async def identify(
    request: Request,
    service: Service,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Return who asks; everybody counts against a rate, wrong tokens too."""
    if not get_parts(request).rates.is_allowed(request.client.host if request.client else ""):
        raise PlannerError(
            "rate_limited", "more requests per second than the server takes; wait a second"
        )
    return service.tokens.identify(credentials.credentials if credentials else None)


def _needs(role: Role) -> Callable[[Caller], Awaitable[Caller]]:
    async def check(caller: Annotated[Caller, Depends(identify)]) -> Caller:
        caller.require(role)
        return caller

    return check


Observer = Annotated[Caller, Depends(_needs(Role.OBSERVE))]
Planner = Annotated[Caller, Depends(_needs(Role.PLAN))]
Operator = Annotated[Caller, Depends(_needs(Role.OPERATE))]
