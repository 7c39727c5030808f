"""What both doors, HTTP and ZMQ, can ask for. Lives on the event loop; hands all work to the planning worker."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_server.errors import PlannerError, SupersededError
from planner_server.plan_request import Frame, Planned, PlanRequest
from planner_server.planning import Planner
from planner_server.planning.problem import GRIPPER
from planner_server.served_model import ServedModel
from planner_server.sessions import Goal, PlanOptions, Session, SessionStore
from planner_server.worker import PlanningWorker
from robot_client.protocol import ActionLimits

_TRANSLATION = slice(0, 3)
_ROTATION = slice(3, 6)


@dataclass(frozen=True)
class SinglePlan:
    """A plan asked for without a session: images uint8 RGB `[H, W, 3]` and the pose `[7]`."""

    frame: Frame
    goal: Frame
    state: NDArray[np.float64]
    options: PlanOptions


@dataclass(frozen=True)
class PlannerService:
    """The service behind the doors.

    Attributes:
        model: What is served.
        worker: The thread that plans.
        sessions: The open sessions.
        planners: The planners by name.
        default_planner: Name of the one that sessions get which name none.
        token: Secret that callers must know; None lets everybody in.
    """

    model: ServedModel
    worker: PlanningWorker
    sessions: SessionStore
    planners: dict[str, Planner]
    default_planner: str
    token: str | None

    def authorise(self, token: str | None) -> None:
        """Refuse callers that do not know the secret; the comparison takes the same time for every wrong one.

        Raises:
            PlannerError: `unauthorised`.
        """
        if self.token is None:
            return
        if not hmac.compare_digest((token or "").encode(), self.token.encode()):
            given = "a wrong token" if token else "no token"
            raise PlannerError(
                "unauthorised",
                f"{given} was given; send the server's PLANNER_TOKEN in `hello`, "
                "or over HTTP as `Authorization: Bearer TOKEN`",
            )

    def create_session(self, options: PlanOptions) -> Session:
        """Begin a session.

        Raises:
            PlannerError: `unknown_planner`, `invalid_request` or `too_many_sessions`.
        """
        name, planner, max_step = self._resolve(options)
        return self.sessions.create(options, planner, name, max_step)

    async def set_goals(self, session: Session, images: Sequence[Frame]) -> None:
        """Replace a session's goals by images uint8 `[H, W, 3]`, in the order of the task.

        Raises:
            PlannerError: `busy`, `planner_failed`.
        """
        goals = await asyncio.gather(*(self._encode_goal(image) for image in images))
        session.goals = tuple(goals)

    async def observe(
        self,
        session: Session,
        seq: int,
        read_frame: Callable[[], Frame],
        state: NDArray[np.float64],
        goal_index: int,
    ) -> Planned:
        """Plan for a robot's newest observation and count what happened.

        Raises:
            SupersededError: A newer observation arrived first; no answer is due.
            PlannerError: `no_goal`, `invalid_frame`, `planner_failed`, `shutting_down`.
        """
        counters = session.counters
        counters.observations += 1
        try:
            request = PlanRequest(
                read_frame=read_frame,
                state=state,
                goal=session.goal(goal_index),
                planner=session.planner,
                max_step=session.max_step,
                seed=session.options.seed + seq,
                name=f"session {session.id} seq {seq}",
            )
            planned = await asyncio.wrap_future(self.worker.observe(session.id, request))
        except SupersededError:
            counters.dropped += 1
            raise
        except PlannerError:
            counters.errors += 1
            raise
        counters.plans += 1
        return planned

    async def plan_once(self, question: SinglePlan, request_id: str) -> Planned:
        """Plan without a session.

        Raises:
            PlannerError: `unknown_planner`, `invalid_request`, `busy`, `planner_failed`.
        """
        _, planner, max_step = self._resolve(question.options)
        request = PlanRequest(
            read_frame=lambda: question.frame,
            state=question.state,
            goal=await self._encode_goal(question.goal),
            planner=planner,
            max_step=max_step,
            seed=question.options.seed,
            name=f"request {request_id}",
        )
        return await asyncio.wrap_future(self.worker.plan(request))

    async def _encode_goal(self, image: Frame) -> Goal:
        return await asyncio.wrap_future(self.worker.encode_goal(image))

    def _resolve(self, options: PlanOptions) -> tuple[str, Planner, tuple[float, ...]]:
        """Return the planner's name, the planner and the box `[7]` that the options stand for."""
        name = options.planner or self.default_planner
        if name not in self.planners:
            raise PlannerError(
                "unknown_planner",
                f"planner {name[:64]!r} does not exist; one of {', '.join(self.planners)}",
            )
        max_step = np.array(self.model.max_step)
        if options.max_step_m is not None:
            largest_m = max_step[_TRANSLATION].max()
            if options.max_step_m > largest_m:
                raise PlannerError(
                    "invalid_request",
                    f"max_step_m is {options.max_step_m}; the model allows at most {largest_m} m per action",
                )
            max_step[_TRANSLATION] = np.minimum(max_step[_TRANSLATION], options.max_step_m)
        if not options.search_gripper:
            max_step[GRIPPER] = 0.0
        return name, self.planners[name], tuple(float(limit) for limit in max_step)


def limits_of(max_step: tuple[float, ...]) -> ActionLimits:
    """Return a box `[7]` in the form of the wire: one limit each for translation, rotation and gripper."""
    return ActionLimits(
        max_step_m=max(max_step[_TRANSLATION]),
        max_rotation_rad=max(max_step[_ROTATION]),
        max_gripper=max_step[GRIPPER],
    )
