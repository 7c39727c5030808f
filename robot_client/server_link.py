"""A session with its goals on the planner server, kept alive: HTTP for the goals, ZMQ for the rest."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from robot_client.errors import RobotClientError, ServerRefusedError
from robot_client.planner_client import PlannerClient
from robot_client.protocol import Welcome
from robot_client.rest import RestClient, SessionOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerLink:
    """What is needed to open a session, and to open it again when the server lost it.

    Attributes:
        client: The ZMQ side, not yet connected.
        rest: The HTTP side.
        options: How the session's plans are searched.
        goals: Goal images as PNG or JPEG files, in the order of the task.
    """

    client: PlannerClient
    rest: RestClient
    options: SessionOptions
    goals: Sequence[bytes]

    def open(self, replaces: str | None = None) -> Welcome:
        """Make a session, upload the goals, say hello.

        Args:
            replaces: The session in whose place it comes, where the server has lost that one.

        Raises:
            ServerUnreachableError, ServerRefusedError: With the remedy.
        """
        session = self.rest.create_session(self.options, replaces)
        try:
            stored = self.rest.put_goals(session, self.goals)
            logger.info("session %s with %d goal images", session, len(stored))
            return self.client.connect(session)
        except RobotClientError:
            self._forget(session)
            raise

    def recover(self) -> Welcome:
        """Take the session up again; where the server has forgotten it, open another.

        A session that was ended, or was not running when it was lost, is not replaced: another one would begin
        running, and nobody had said so. The server is told which one it has lost, because it may have been told to
        stop every robot when it no longer knew of this one.

        Raises:
            ServerUnreachableError, ServerRefusedError: The server is still not there.
        """
        try:
            return self.client.reconnect()
        except ServerRefusedError as error:
            if error.code != "unknown_session" or self.client.orders.state != "running":
                raise
            logger.warning("the server has forgotten the session; opening another")
            return self.open(replaces=self.client.session)

    def close(self) -> None:
        """End the session and free the socket."""
        self.client.close()

    def _forget(self, session: str) -> None:
        """End a session that was never taken up; the server keeps only so many."""
        try:
            self.rest.delete_session(session)
        except RobotClientError as error:
            logger.debug("session %s stays until it is idle for too long: %s", session, error)
