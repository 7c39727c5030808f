"""`robot-client recover`: clear the errors of an arm that has stopped itself, with consent."""

import argparse

from robot_client.attendant import Console, idle
from robot_client.errors import ReflexError
from robot_client.exits import DONE, NOT_ACHIEVED
from robot_client.run import say

NAME = "recover"
HELP = "clear an arm's errors after a reflex, with your consent"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    parser.add_argument("--host", required=True, help="the arm's address")
    parser.add_argument(
        "--no-realtime",
        action="store_true",
        help="for a simulated arm or a kernel without PREEMPT_RT",
    )


def run(options: argparse.Namespace) -> int:
    """Say what is wrong, ask, recover; returns the exit status."""
    from robot_client.arms.franky_arm import FrankyArm, FrankySettings

    arm = FrankyArm(options.host, FrankySettings(needs_realtime=not options.no_realtime))
    try:
        arm.connect()
        say("the arm reports no errors")
    except ReflexError as reflex:
        say(str(reflex))
        if not Console().consents("Have you looked at it? Recover?", idle):
            return NOT_ACHIEVED
        arm.recover()
        say("recovered")
    finally:
        arm.disconnect()
    return DONE
