"""`robot-client home-gripper`: let the Franka Hand find its own width; the fingers move fully."""

import argparse

from robot_client.exits import DONE
from robot_client.run import say

NAME = "home-gripper"
HELP = "home the Franka Hand: the fingers open and close fully; keep hands away"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    parser.add_argument("--host", required=True, help="the arm's address")


def run(options: argparse.Namespace) -> int:
    """Home the hand; returns the exit status."""
    from robot_client.arms.gripper import GripperSettings, GripperThread

    GripperThread(options.host, GripperSettings()).home()
    say("homed")
    return DONE
