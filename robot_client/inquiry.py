"""Asking the planner with limited patience.

An answer is due one control period after the question. When it is not there the arm is told to hold,
and then: a server that still answers pings is merely slow and is given more time; one that is silent
is called again, and the question becomes a new one.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from robot_client.errors import ServerRefusedError, ServerUnreachableError
from robot_client.protocol import Act, ErrorReply, Observe
from robot_client.server_link import ServerLink

logger = logging.getLogger(__name__)

_SILENT_S = 2.0  # several heartbeats; calling again costs a connection


class NoPlanError(Exception):
    """There is no usable plan for this observation; the next one may fare better."""


class PatienceLostError(Exception):
    """The run must end: too many periods in a row without a usable plan, or another model answers."""


@dataclass
class Inquiry:
    """Asks for one run.

    Attributes:
        link: Open.
        period_s: The model's control period.
        max_age_s: An observation older than this is given up.
        max_missed: Periods in a row without a usable plan that end the run.
        hold: Brings the arm to rest; called at every missed deadline.
        missed: Periods in a row without a usable plan, so far.
        missed_total: The same over the whole run.
    """

    link: ServerLink
    period_s: float
    max_age_s: float
    max_missed: int
    hold: Callable[[], None]
    missed: int = 0
    missed_total: int = 0

    def ask(self, observation: Observe) -> Act:
        """Send an observation and wait for its plan.

        Raises:
            NoPlanError: The server refused, was lost and found again, or took too long.
            PatienceLostError: Too many periods without a plan.
        """
        client = self.link.client
        client.send_observation(observation)
        deadline = time.monotonic() + self.period_s
        while True:
            reply = client.poll_act(deadline - time.monotonic())
            if isinstance(reply, Act) and reply.seq == observation.seq:
                return reply
            if isinstance(reply, ErrorReply):
                self._refused(reply)
            if reply is None:
                deadline += self.period_s
                self.miss(f"no plan for observation {observation.seq} in time")
                if client.silence_s() > max(_SILENT_S, self.period_s):
                    self._call_again()
                if time.monotonic() - observation.t_capture > self.max_age_s:
                    raise NoPlanError(f"observation {observation.seq} is too old to act on")

    def miss(self, reason: str) -> None:
        """Count one period without a usable plan; the arm holds.

        Raises:
            PatienceLostError: It was one too many.
        """
        self.hold()
        self.missed += 1
        self.missed_total += 1
        logger.warning("%s; the arm holds (%d of %d)", reason, self.missed, self.max_missed)
        if self.missed >= self.max_missed:
            raise PatienceLostError(
                f"{self.missed} control periods in a row without a usable plan; last: {reason}"
            )

    def succeed(self) -> None:
        """Note a usable plan."""
        self.missed = 0

    def _refused(self, reply: ErrorReply) -> None:
        reason = f"the server refused: {reply.code}: {reply.message}"
        self.miss(reason)
        # A server with a token forgets the greeting with the connection, which ZMQ renews unasked.
        if reply.code in ("unknown_session", "unauthorised"):
            self._call_again()
        time.sleep(self.period_s)
        raise NoPlanError(reason)

    def _call_again(self) -> None:
        try:
            welcome = self.link.recover()
        except (ServerUnreachableError, ServerRefusedError) as error:
            logger.warning("%s", error)
            return
        if welcome.control_period_s != self.period_s:
            raise PatienceLostError(
                f"the server came back with a control period of {welcome.control_period_s:g} s "
                f"instead of {self.period_s:g} s; start the run again for the model it serves now"
            )
        raise NoPlanError("the connection was lost and is back")
