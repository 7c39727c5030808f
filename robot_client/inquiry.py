"""Asking the planner with limited patience.

An answer is due one control period after the question. When it is not there the arm is told to hold,
and then: a server that still answers pings is merely slow and is given more time; one that is silent
is called again, and the question becomes a new one. One that has announced its restart is waited for
longer, with growing pauses between the calls.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from robot_client.errors import ServerRefusedError, ServerUnreachableError
from robot_client.protocol import Act, ErrorReply, Observe
from robot_client.records import Event
from robot_client.server_link import ServerLink

logger = logging.getLogger(__name__)

_SILENT_S = 2.0  # several heartbeats; calling again costs a connection
_FIRST_CALL_S, _LAST_CALL_S = 0.25, 4.0  # pauses between calls to a server that is restarting
#: A server with a token forgets the greeting with the connection, which ZMQ renews unasked; a count
#: of observations that has gone astray begins anew with a greeting.
_CALL_AGAIN = ("unknown_session", "unauthorised", "stale_seq", "shutting_down", "not_ready")
_OVER = ("session_taken", "session_ended", "stopped", "forbidden")


class NoPlanError(Exception):
    """There is no usable plan for this observation; the next one may fare better."""


class PatienceLostError(Exception):
    """The run must end: too many periods in a row without a plan, or the session is not ours."""


@dataclass
class Inquiry:
    """Asks for one run.

    Attributes:
        link: Open.
        model: Name of the world model that the run began with.
        period_s: Its control period.
        max_age_s: An observation older than this is given up.
        max_missed: Periods in a row without a usable plan that end the run.
        restart_timeout_s: How long a server that has announced its restart is waited for.
        hold: Brings the arm to rest; called at every missed deadline.
        on_event: Told what happens.
        missed: Periods in a row without a usable plan, so far.
        missed_total: The same over the whole run.
        lost: What the server said when the session was lost while nothing was asked; the next ask is
            refused with it.
    """

    link: ServerLink
    model: str
    period_s: float
    max_age_s: float
    max_missed: int
    restart_timeout_s: float
    hold: Callable[[], None]
    on_event: Callable[[Event], None]
    missed: int = 0
    missed_total: int = 0
    lost: ErrorReply | None = None
    _pending: Observe | None = None
    _answer: Act | ErrorReply | None = None
    _orders: int = 0

    def ask(self, observation: Observe) -> Act:
        """Send an observation and wait for its plan.

        Raises:
            NoPlanError: The server refused, was lost and found again, or took too long.
            PatienceLostError: Too many periods without a plan.
        """
        self.begin(observation)
        return self.finish(time.monotonic() + self.period_s)

    def begin(self, observation: Observe) -> None:
        """Send an observation; its plan is collected by `listen` and `finish`."""
        self._pending, self._answer = observation, None
        self._orders = self.link.client.orders.obeyed
        self.link.client.send_observation(observation)

    def listen(self, time_s: float) -> None:
        """Spend `time_s` keeping the conversation alive; a plan that comes is kept for `finish`.

        Word that the session is lost makes the arm hold at once, and what was planned void.

        Raises:
            PatienceLostError: It is lost for good.
        """
        end = time.monotonic() + time_s
        while (left_s := end - time.monotonic()) > 0:
            reply = self.link.client.poll_act(left_s)
            self._keep(reply)
            if isinstance(reply, ErrorReply) and reply.seq is None:
                self._lose(reply)

    def finish(self, deadline: float) -> Act:
        """Wait for the plan of the observation that `begin` sent, due at `deadline` (monotonic).

        Raises:
            NoPlanError, PatienceLostError: As `ask`.
        """
        client, observation = self.link.client, self._pending
        if observation is None:
            raise NoPlanError("nothing was asked")
        was_silent = False
        while True:
            self._refuse_where_lost()
            if self._answer is None:
                # A server that owes every answer for a period is lost, whenever the plan is due.
                lost_s = math.inf if was_silent else self.period_s - client.silence_s()
                self._keep(client.poll_act(min(lost_s, deadline - time.monotonic())))
            if client.orders.obeyed != self._orders or client.orders.state != "running":
                raise NoPlanError(
                    f"the session is {client.orders.state} since the question was asked"
                )
            if isinstance(self._answer, Act):
                self._check_model()  # a connection may have been renewed since the question
                self._pending = None
                return self._answer
            if self._answer is not None:
                self._refused(self._answer)
            is_silent = client.silence_s() >= self.period_s
            if (is_silent and not was_silent) or time.monotonic() >= deadline:
                self._late(observation)
                deadline = time.monotonic() + self.period_s
            was_silent = is_silent

    def miss(self, reason: str) -> None:
        """Count one period without a usable plan; the arm holds.

        Raises:
            PatienceLostError: It was one too many.
        """
        self.hold()
        self.missed += 1
        self.missed_total += 1
        logger.warning("%s; the arm holds (%d of %d)", reason, self.missed, self.max_missed)
        self.on_event(Event("hold", reason, {"missed": self.missed}))
        if self.missed >= self.max_missed:
            raise PatienceLostError(
                f"{self.missed} control periods in a row without a usable plan; last: {reason}"
            )

    def succeed(self) -> None:
        """Note a usable plan."""
        self.missed = 0

    def wait_while_paused(self) -> None:
        """Wait, the arm holding, until the operator lets the session go on.

        Raises:
            NoPlanError: The server was lost meanwhile and is back.
            PatienceLostError: It is gone for good, or the session is not ours any more.
        """
        client = self.link.client
        self._refuse_where_lost()
        while client.orders.state != "running":  # a stop that was missed is repeated, and ends this
            reply = client.poll_act(self.period_s)
            if isinstance(reply, ErrorReply) and reply.seq is None:
                self._refused(reply)  # it is about the session: nothing else was asked
            if client.is_server_closing:
                self._wait_for_restart()
            if client.silence_s() > max(_SILENT_S, self.period_s):
                self.miss("the session is paused and the server is silent")
                self._call_again()

    def _keep(self, reply: Act | ErrorReply | None) -> None:
        pending = self._pending
        if pending is None or reply is None:
            return
        is_answer = reply.seq == pending.seq or (
            isinstance(reply, ErrorReply) and reply.seq is None
        )
        if is_answer:
            self._answer = reply

    def _lose(self, reply: ErrorReply) -> None:
        """Hold for an error that no question asked for, where it says that the session is not ours any more."""
        if reply.code not in (*_OVER, *_CALL_AGAIN):
            return
        self.lost, reason = reply, _reason(reply)
        self.link.client.orders.void()
        self.on_event(Event("session lost", reason))
        if reply.code in _OVER:
            raise PatienceLostError(reason)

    def _refuse_where_lost(self) -> None:
        if self.lost is not None:
            self._refused(self.lost)

    def _late(self, observation: Observe) -> None:
        client = self.link.client
        if client.is_server_closing:
            self._wait_for_restart()
        self.miss(f"no plan for observation {observation.seq} in time")
        if client.silence_s() > max(_SILENT_S, self.period_s):
            self._call_again()
        if time.monotonic() - observation.t_capture > self.max_age_s:
            raise NoPlanError(f"observation {observation.seq} is too old to act on")

    def _refused(self, reply: ErrorReply) -> None:
        self._pending = self.lost = None
        reason = _reason(reply)
        if reply.code in _OVER:
            self.hold()
            raise PatienceLostError(reason)
        if reply.code == "paused":
            self.hold()
            self.link.client.orders.state = "paused"
            raise NoPlanError(reason)
        if reply.code == "shutting_down":
            self._wait_for_restart()
        self.miss(reason)
        if reply.code in _CALL_AGAIN:
            self._call_again()
        self.link.client.listen(self.period_s)
        raise NoPlanError(reason)

    def _wait_for_restart(self) -> None:
        """Hold and call again with growing pauses, as long as a restart may take."""
        self.hold()
        text = "the server restarts; the arm holds until it is back"
        self.on_event(Event("server restarts", text))
        end, pause_s = time.monotonic() + self.restart_timeout_s, _FIRST_CALL_S
        while time.monotonic() < end:
            time.sleep(pause_s)
            self._call_again()
            pause_s = min(2 * pause_s, _LAST_CALL_S)
        self.link.client.is_server_closing = False  # from now on it is lost like any other

    def _call_again(self) -> None:
        """Take the session up again, where the server is there.

        Raises:
            NoPlanError: It is back; what was asked before is void.
            PatienceLostError: It serves something else now, or the session is another robot's.
        """
        try:
            session = self.link.recover().session
        except ServerUnreachableError as error:
            logger.warning("%s", error)
            return
        except ServerRefusedError as error:
            # An unknown session comes out only where it was paused or stopped: nothing may move then.
            if error.code in (*_OVER, "unknown_session"):
                raise PatienceLostError(f"the server refused: {error}") from error
            logger.warning("%s", error)
            return
        self._check_model()
        self._pending = None
        self.on_event(Event("reconnected", f"the connection is back, session {session}"))
        raise NoPlanError("the connection was lost and is back")

    def _check_model(self) -> None:
        """Refuse a server that serves something else since it is back: energies and actions would mean other things."""
        client = self.link.client
        if (client.model, client.control_period_s) != (self.model, self.period_s):
            raise PatienceLostError(
                f"the server came back with {client.model}, control period {client.control_period_s:g} s, "
                f"instead of {self.model}, {self.period_s:g} s; start the run again for what it serves now"
            )


def _reason(reply: ErrorReply) -> str:
    return f"the server refused: {reply.code}: {reply.message}"
