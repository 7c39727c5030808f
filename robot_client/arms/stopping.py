"""Ending a Franka's motion at once, told again and again until it has ended."""

import logging
import time

import franky

from robot_client.arms.gripper import FRANKY_ERRORS
from robot_client.errors import ArmError

logger = logging.getLogger(__name__)

_AGAIN_S, _GIVE_UP_AFTER_S = 0.05, 1.0


def stop_motion(robot: franky.Robot, host: str) -> None:
    """Abort the motion; the arm's own controller brings it to rest.

    Once is not enough: libfranka forgets a stop that comes while a motion is just begun.

    Args:
        robot: Connected.
        host: Its address, for the message.

    Raises:
        ArmError: It did not take the stop, or still moves after all of them.
    """
    began = time.monotonic()
    while (problem := _try_stop(robot)) is not None:
        if (spent_s := time.monotonic() - began) > _GIVE_UP_AFTER_S:
            raise ArmError(
                f"the arm at {host} {problem}, {spent_s:.1f} s after it was first told to stop. "
                "Press the emergency stop, then look at power, cable and FCI"
            )


def _try_stop(robot: franky.Robot) -> str | None:
    """Stop once; why the motion may not have ended, None where it has."""
    try:
        try:
            robot.stop()
        except franky.CommandException as error:
            logger.debug("a stop was refused: %s", error)  # whether it has ended, the motion says
        return None if robot.join_motion(timeout=_AGAIN_S) else "still moves"
    except franky.ControlException as error:
        # How libfranka says that a motion was cut short; left unread it would fail the next one.
        logger.debug("stopped: %s", error)
        return None
    except FRANKY_ERRORS as error:
        time.sleep(_AGAIN_S)
        return f"does not take the stop ({error})"
