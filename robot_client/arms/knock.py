"""Is anybody there? libfranka itself would wait for the system's limit, which is minutes."""

import socket

from robot_client.errors import ArmError

_FCI_PORT = 1337
_TIMEOUT_S = 2.0


def knock(host: str) -> None:
    """Connect to an arm's FCI for a moment.

    Raises:
        ArmError: Nobody answers within two seconds; the message says what to look at.
    """
    try:
        socket.create_connection((host, _FCI_PORT), _TIMEOUT_S).close()
    except OSError as error:
        raise ArmError(
            f"no arm answers at {host}:{_FCI_PORT} ({error}). Check the address, and in Desk unlock "
            "the joints and activate FCI; for the simulator start it first."
        ) from error
