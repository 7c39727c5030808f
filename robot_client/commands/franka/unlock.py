"""`robot-client unlock`: release the brakes and switch FCI on, as Desk does."""

import argparse
import getpass
import os
import time

from robot_client.exits import DONE
from robot_client.run import say

NAME = "unlock"
HELP = "take control in Desk, unlock the joints, activate FCI; keep both until Ctrl+C"

_PASSWORD = "FRANKA_DESK_PASSWORD"  # noqa: S105 - the name of a variable


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    parser.add_argument("--host", required=True, help="the arm's address")
    parser.add_argument(
        "--user", required=True, help=f"Desk's user; the password is in ${_PASSWORD}"
    )
    parser.add_argument("--keep-unlocked", action="store_true", help="do not lock at the end")


def run(options: argparse.Namespace) -> int:
    """Unlock and wait; Ctrl+C locks again."""
    from robot_client.arms.desk import unlocked

    password = os.environ.get(_PASSWORD) or getpass.getpass("Desk password: ")
    with unlocked(options.host, options.user, password, is_locked_after=not options.keep_unlocked):
        say("joints are unlocked and FCI is active; Ctrl+C ends it")
        while True:
            time.sleep(0.5)
    return DONE
