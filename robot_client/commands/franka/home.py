"""`robot-client home-gripper`: let the hand find its own width; the fingers move fully."""

import argparse
from pathlib import Path

from robot_client.exits import DONE
from robot_client.run import say

NAME = "home-gripper"
HELP = "home the Franka Hand, or activate a Robotiq: the fingers move fully; keep hands away"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.set_defaults(command=run)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--host", help="the arm's address, for its Franka Hand")
    which.add_argument("--robotiq", type=Path, help="serial port of a Robotiq 2F gripper")


def run(options: argparse.Namespace) -> int:
    """Home the hand; returns the exit status."""
    if options.robotiq is not None:
        from robot_client.arms.robotiq import RobotiqThread

        RobotiqThread(options.robotiq).home()
        say("active")
        return DONE
    from robot_client.arms.gripper import GripperSettings, GripperThread

    GripperThread(options.host, GripperSettings()).home()
    say("homed")
    return DONE
