"""A planner behind the wire, asked about recordings the way a robot asks it.

Each observation is answered before the next is sent. What would make it wait is done ahead, in another thread: frames
are decoded, and the goals of the next steps go to the server, into another session than the one under way, while it
plans. What the wire does not carry, the energies of given actions, is asked for over HTTP; a server that does not know
that question is remembered as such and not asked again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, cycle
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from robot_client.codec import encode_image
from robot_client.errors import ServerRefusedError, ServerUnreachableError
from robot_client.planner_client import ServerAddress
from robot_client.protocol import MAX_GOALS, Welcome
from robot_client.replay.remote_session import RemoteSession, refusals_of_data
from robot_client.rest import RestClient, SessionOptions
from trajectories.replay.engine import Answers
from trajectories.replay.judge import Energies
from trajectories.replay.prefetch import Prefetch
from trajectories.replay.questions import Question
from trajectories.replay.results import PlannerCard

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_SESSIONS = 3  # one asked, one ready, one being made ready
_UPLOAD_BYTES = 12 * 1024 * 1024
_UNKNOWN_ENDPOINT = ("http_404", "http_405", "not_found", "method_not_allowed")
_KEPT_IMAGES = 64


@dataclass(frozen=True, eq=False)
class _Batch:
    """Questions whose goals the server has."""

    session: RemoteSession
    questions: list[Question]
    goal_ms: float


class RemotePlanner:
    """A `PlannerUnderTest` on a server.

    Args:
        address: Where robots connect.
        rest: The same server over HTTP.
        options: How its plans are searched.
        label: What reports call it.
    """

    def __init__(
        self, address: ServerAddress, rest: RestClient, options: SessionOptions, label: str
    ) -> None:
        self._rest = rest
        self._options = options
        self._label = label
        self._address = address
        self._sessions = [RemoteSession(address, rest, options) for _ in range(_SESSIONS)]
        self._exit = ExitStack()
        self._card: PlannerCard | None = None
        self._has_energies = True
        self._lock = threading.Lock()
        self._images: dict[int, tuple[Frame, bytes]] = {}

    def __enter__(self) -> Self:
        """Open the sessions.

        Raises:
            ServerUnreachableError, ServerRefusedError: With the remedy.
        """
        with ExitStack() as stack:
            for session in self._sessions:
                welcome = session.open()
                stack.callback(session.close)
            self._card = self._describe(welcome)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    @property
    def card(self) -> PlannerCard:
        """Who answers and what its limits are."""
        if self._card is None:
            raise ServerUnreachableError("no session is open; enter the planner first")
        return self._card

    def plan(self, questions: Iterator[Question]) -> Answers:
        """Answer an episode's questions in order.

        Raises:
            ReplayError: The server cannot do anything with this episode.
            ServerUnreachableError, ServerRefusedError: It answers nothing at all.
        """
        for session in self._sessions:
            session.greet()
        ahead = Prefetch(self._batches(questions), depth=_SESSIONS - 2)
        with closing(iter(ahead)) as ready:
            for batch in ready:
                for index, question in enumerate(batch.questions):
                    yield question, batch.session.ask(question, index, batch.goal_ms)

    def energies(self, frame: Frame, state: Array, goal: Frame, actions: Array) -> Energies | None:
        """Ask for the energies of `actions` `[S, H, 7]`; None where the server does not know the question."""
        if not self._has_energies:
            return None
        try:
            with refusals_of_data():
                answer = self._rest.energies(self._png(frame), self._png(goal), state, actions)
        except ServerRefusedError as error:
            if error.code not in _UNKNOWN_ENDPOINT:
                raise
            logger.warning("this server does not tell the energies of given actions")
            self._has_energies = False
            return None
        return Energies(float(answer["energy_now"]), np.array(answer["energies"], dtype=np.float64))

    def _batches(self, questions: Iterator[Question]) -> Iterator[_Batch]:
        """Decode, compress and upload; runs ahead in a thread of its own.

        Batches grow from one step on, so that the first plan does not wait for the frames of many.
        """
        most = 1
        sessions = cycle(self._sessions)
        for first in questions:
            batch: list[Question] = []
            images: list[bytes] = []
            for question in chain([first], questions):
                batch.append(question)
                images.append(self._png(question.goal))
                if len(batch) == most or sum(map(len, images)) > _UPLOAD_BYTES:
                    break
            session = next(sessions)
            yield _Batch(session, batch, session.put_goals(images))
            most = min(2 * most, MAX_GOALS)

    def _describe(self, welcome: Welcome) -> PlannerCard:
        model = self._rest.model()
        limits = welcome.action_limits
        box = (*[limits.max_step_m] * 3, *[limits.max_rotation_rad] * 3, limits.max_gripper)
        return PlannerCard(
            label=self._label,
            model=welcome.model,
            planner=self._options.planner or str(model["default_planner"]),
            via=self._address.endpoint,
            control_period_s=welcome.control_period_s,
            horizon=int(model["horizon"]),
            max_step=box,
        )

    def _png(self, frame: Frame) -> bytes:
        """Compress a frame, once for all its uses as observation, goal and end."""
        with self._lock:
            kept = self._images.get(id(frame))
        if kept is not None and kept[0] is frame:
            return kept[1]
        data = encode_image(frame, "png").data
        with self._lock:
            if len(self._images) >= _KEPT_IMAGES:
                self._images.pop(next(iter(self._images)))
            self._images[id(frame)] = (frame, data)
        return data
