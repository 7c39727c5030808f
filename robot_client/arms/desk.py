"""What a person does in Desk before FCI works, from here: control, brakes, FCI. FR3 and newer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import franky

from robot_client.errors import ArmError

logger = logging.getLogger(__name__)

_CONTROL_TIMEOUT_S = 30.0


@contextmanager
def unlocked(host: str, user: str, password: str, *, is_locked_after: bool) -> Iterator[None]:
    """Take control, unlock the joints, activate FCI; give everything back at the end.

    Control is never taken by force: whoever works at the arm keeps it.

    Args:
        host: The arm's address.
        user: Desk's user.
        password: Its password; neither stored nor logged.
        is_locked_after: Lock the joints again at the end.

    Raises:
        ArmError: Desk refused; the message says what to do.
    """
    try:
        with franky.Desk(host, user, password) as desk:
            desk.take_control(wait_timeout=_CONTROL_TIMEOUT_S)
            desk.set_mode_execution()
            desk.unlock_brakes()
            desk.enable_fci()
            try:
                yield
            finally:
                if is_locked_after:
                    desk.lock_brakes()
    except (franky.DeskError, OSError) as error:
        raise ArmError(
            f"Desk at {host} refused: {error}. Is somebody else in control, the user stop pressed, "
            "or the password wrong?"
        ) from error
