"""Command line of the robot's side.

`run` drives an arm (or only looks: on hardware a dry run is the default), `demo` starts a server and
a simulated Franka and drives that; `preflight`, `cameras`, `crop-preview`, `teach` and
`calibrate-axes` prepare a cell; `replay` judges planners on recorded episodes.

Exit status: 0 done, 1 not achieved or stopped early, 2 it could not be done at all, 130 interrupted.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

import argcomplete

from robot_client.commands import (
    calibrate,
    cameras,
    crop_preview,
    demo,
    preflight,
    replay,
    replay_compare,
    run,
    teach,
)
from robot_client.commands.franka import home, recover, unlock
from robot_client.errors import RobotClientError
from robot_client.exits import DONE, FAILED, INTERRUPTED, NOT_ACHIEVED
from robot_client.interrupts import one_interrupt
from robot_client.version import VERSION

__all__ = ["DONE", "FAILED", "INTERRUPTED", "NOT_ACHIEVED", "main"]

COMMANDS = (
    run,
    demo,
    preflight,
    cameras,
    crop_preview,
    teach,
    calibrate,
    unlock,
    recover,
    home,
    replay,
    replay_compare,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    argcomplete.autocomplete(
        parser
    )  # for a shell that asks: eval "$(register-python-argcomplete robot-client)"
    options = parser.parse_args(replay_compare.spell_out(given))
    level = logging.DEBUG if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        with one_interrupt():
            return int(options.command(options))
    except RobotClientError as error:
        logging.getLogger(__name__).debug("the way there", exc_info=True)
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    except ModuleNotFoundError as error:  # the robot's machine is small; recordings ask for more
        sys.stderr.write(f"error: {error}; pip install 'vjepa-planner[client,data]'\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the arm has been stopped\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robot-client",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument("--verbose", action="store_true", help="log everything")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands.add_parser(command.NAME, help=command.HELP))
    return parser
