"""One session on a server: goals over HTTP, then one observation after the other over ZMQ."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from robot_client.errors import RobotClientError, ServerRefusedError, ServerUnreachableError
from robot_client.planner_client import PlannerClient, ServerAddress
from robot_client.protocol import Act, ErrorReply, Observe, Welcome
from robot_client.rest import RestClient, SessionOptions
from trajectories.replay.errors import ReplayError
from trajectories.replay.judge import Answer
from trajectories.replay.questions import Question

logger = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 300.0
_SILENCE_S = 15.0
_POLL_S = 1.0
_UNUSABLE_DATA = (
    "invalid_request",
    "invalid_state",
    "invalid_frame",
    "too_large",
    "planner_failed",
)


class RemoteSession:
    """A robot's conversation, without a robot.

    Args:
        address: Where robots connect.
        rest: The same server over HTTP.
        options: How its plans are searched.
    """

    def __init__(self, address: ServerAddress, rest: RestClient, options: SessionOptions) -> None:
        self._address = address
        self._rest = rest
        self._options = options
        self._client = PlannerClient(address)

    def open(self) -> Welcome:
        """Make the session and greet the server.

        Raises:
            ServerUnreachableError, ServerRefusedError: With the remedy.
        """
        session = self._rest.create_session(self._options)
        try:
            return self._client.connect(session)
        except RobotClientError:
            self._client.close()
            self._forget(session)
            raise

    def close(self) -> None:
        """Say bye, which ends the session."""
        self._client.close()

    def greet(self) -> None:
        """Begin an episode: from a greeting on, sequence numbers count anew.

        Raises:
            ServerUnreachableError, ServerRefusedError: The server or the session is gone.
        """
        self._client.reconnect()

    def put_goals(self, images: Sequence[bytes]) -> float:
        """Replace the goals by image files; returns the time per goal, encoding included [ms].

        Raises:
            ReplayError: The server refuses the images.
            ServerUnreachableError, ServerRefusedError: It answers nothing at all.
        """
        begun_s = time.monotonic()
        with refusals_of_data():
            self._rest.put_goals(self._client.session, images)
        return 1e3 * (time.monotonic() - begun_s) / len(images)

    def ask(self, question: Question, goal_index: int, goal_ms: float) -> Answer:
        """Send an observation and wait for its plan.

        The control step is the sequence number, and with it part of the seed: a step's plan does not depend on which
        steps were asked about before.

        Raises:
            ReplayError: The server cannot do anything with this observation.
            ServerUnreachableError, ServerRefusedError: It answers nothing at all.
        """
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
        with refusals_of_data():
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

    def _forget(self, session: str) -> None:
        try:
            self._rest.delete_session(session)
        except RobotClientError as error:
            logger.debug("session %s stays until it is idle for too long: %s", session, error)


@contextmanager
def refusals_of_data() -> Iterator[None]:
    """Tell what is wrong with the episode (`ReplayError`) from what is wrong with the server."""
    try:
        yield
    except ServerRefusedError as error:
        if error.code not in _UNUSABLE_DATA:
            raise
        raise ReplayError(f"the server refuses it: {error}") from error
