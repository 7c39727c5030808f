"""A planner behind the wire, asked about recordings the way a robot asks it.

One session, goals over HTTP, frames over ZMQ, each observation answered before the next is sent. What the wire does
not carry, the energies of given actions, is asked for over HTTP; a server that does not know that question is
remembered as such and not asked again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from robot_client.codec import encode_image
from robot_client.errors import RobotClientError, ServerRefusedError, ServerUnreachableError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import MAX_GOALS, Act, ErrorReply, Observe
from robot_client.rest import RestClient, SessionOptions
from trajectories.replay.engine import Answers
from trajectories.replay.errors import ReplayError
from trajectories.replay.judge import Answer, Energies
from trajectories.replay.prefetch import Prefetch
from trajectories.replay.questions import Question
from trajectories.replay.results import PlannerCard

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_ANSWER_TIMEOUT_S = 300.0
_SILENCE_S = 15.0
_POLL_S = 1.0
_UPLOAD_BYTES = 12 * 1024 * 1024
_UNKNOWN_ENDPOINT = ("http_404", "http_405", "not_found", "method_not_allowed")
_UNUSABLE_DATA = (
    "invalid_request",
    "invalid_state",
    "invalid_frame",
    "too_large",
    "planner_failed",
)
_KEPT_IMAGES = 64


class RemotePlanner:
    """One session on one server; a `PlannerUnderTest`.

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
        self._client = PlannerClient(address)
        self._card: PlannerCard | None = None
        self._address = address
        self._has_energies = True
        self._lock = threading.Lock()
        self._images: dict[int, tuple[Frame, bytes]] = {}

    def __enter__(self) -> Self:
        """Open the session.

        Raises:
            ServerUnreachableError, ServerRefusedError: With the remedy.
        """
        session = self._rest.create_session(self._options)
        try:
            self._client.connect(session)
            self._card = self._describe()
        except RobotClientError:
            self._client.close()
            self._forget(session)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()  # says bye, which ends the session

    @property
    def card(self) -> PlannerCard:
        """Who answers and what its limits are."""
        if self._card is None:
            raise ServerUnreachableError("the session is not open; enter the planner first")
        return self._card

    def plan(self, questions: Iterator[Question]) -> Answers:
        """Answer an episode's questions in order; goals are uploaded for several steps at once.

        An episode begins with a greeting, from which sequence numbers count anew: the control step is the
        number, and with it the seed, whichever episodes were asked about before.

        Raises:
            ReplayError: The server cannot do anything with this episode.
            ServerUnreachableError, ServerRefusedError: It answers nothing at all.
        """
        self._client.reconnect()
        ahead = Prefetch(self._prepared(questions), depth=2 * MAX_GOALS)
        with closing(iter(ahead)) as ready:
            for first in ready:
                batch, images = _batch(first, ready)
                with _refusals_of_data():
                    begun_s = time.monotonic()
                    self._rest.put_goals(self._client.session, images)
                    goal_ms = 1e3 * (time.monotonic() - begun_s) / len(batch)
                for index, question in enumerate(batch):
                    with _refusals_of_data():
                        answer = self._ask(question, index, goal_ms)
                    yield question, answer

    def energies(self, frame: Frame, state: Array, goal: Frame, actions: Array) -> Energies | None:
        """Ask for the energies of `actions` `[S, H, 7]`; None where the server does not know the question."""
        if not self._has_energies:
            return None
        try:
            with _refusals_of_data():
                answer = self._rest.energies(self._png(frame), self._png(goal), state, actions)
        except ServerRefusedError as error:
            if error.code not in _UNKNOWN_ENDPOINT:
                raise
            logger.warning("this server does not tell the energies of given actions")
            self._has_energies = False
            return None
        return Energies(float(answer["energy_now"]), np.array(answer["energies"], dtype=np.float64))

    def _prepared(self, questions: Iterator[Question]) -> Iterator[tuple[Question, bytes]]:
        """Decode and compress, in the thread that runs ahead."""
        for question in questions:
            yield question, self._png(question.goal)

    def _ask(self, question: Question, goal_index: int, goal_ms: float) -> Answer:
        started_s = time.monotonic()
        self._client.send_observation(
            Observe(
                session=self._client.session,
                seq=question.span.step,
                t_capture=started_s,
                frame=question.frame,
                state=question.state,
                goal_index=goal_index,
            )
        )
        act = self._wait(question, started_s + _ANSWER_TIMEOUT_S)
        return Answer(
            actions=act.actions,
            energy_now=act.energy_now,
            energy=act.energy,
            energy_do_nothing=act.energy_do_nothing,
            evaluations=act.evaluations,
            encode_ms=act.encode_ms,
            plan_ms=act.plan_ms,
            queue_ms=act.queue_ms,
            round_trip_ms=1e3 * (time.monotonic() - started_s),
            goal_ms=goal_ms,
            warnings=act.warnings,
        )

    def _wait(self, question: Question, deadline_s: float) -> Act:
        place = f"{question.episode}, step {question.span.step}"
        while time.monotonic() < deadline_s:
            reply = self._client.poll_act(_POLL_S)
            if isinstance(reply, Act) and reply.seq == question.span.step:
                return reply
            if isinstance(reply, ErrorReply):
                raise ServerRefusedError(reply.code, f"step {question.span.step}: {reply.message}")
            if self._client.silence_s() > _SILENCE_S:
                raise ServerUnreachableError(
                    f"{place}: the server at {self._address.endpoint} fell silent {_SILENCE_S:g} s ago; look at its "
                    "log, start it again and replay anew"
                )
        raise ServerUnreachableError(
            f"{place}: no plan after {_ANSWER_TIMEOUT_S:g} s; give the server a deadline (PLANNER_DEADLINE_MS)"
        )

    def _describe(self) -> PlannerCard:
        model, welcome = self._rest.model(), self._client.welcome
        if welcome is None:
            raise ServerUnreachableError("the server welcomed nobody; connect again")
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

    def _forget(self, session: str) -> None:
        try:
            self._rest.delete_session(session)
        except RobotClientError as error:
            logger.debug("session %s stays until it is idle for too long: %s", session, error)


def _batch(
    first: tuple[Question, bytes], more: Iterator[tuple[Question, bytes]]
) -> tuple[list[Question], list[bytes]]:
    """Take as many questions as one upload of goals serves."""
    batch: list[Question] = []
    images: list[bytes] = []
    size = 0
    for question, image in chain([first], more):
        batch.append(question)
        images.append(image)
        size += len(image)
        if len(batch) == MAX_GOALS or size > _UPLOAD_BYTES:
            break
    return batch, images


@contextmanager
def _refusals_of_data() -> Iterator[None]:
    """Tell what is wrong with the episode from what is wrong with the server."""
    try:
        yield
    except ServerRefusedError as error:
        if error.code not in _UNUSABLE_DATA:
            raise
        raise ReplayError(f"the server refuses it: {error}") from error
