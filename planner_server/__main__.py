"""What belongs to running a server besides running it: `planner-server COMMAND --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import argcomplete

from planner_server import __version__

try:
    from planner_server.conformance import Target, run_checks
    from planner_server.scaling.capacity import simulate_from_options
    from planner_server.security.keys import make_keys
    from planner_server.security.tokens import make_token
except ModuleNotFoundError as error:  # the wheel is the same on every machine, the extras are not
    sys.exit(f"error: {error}; pip install 'vjepa-planner[server]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = _parser()
    argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="planner-server", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_token(
        commands.add_parser("token", help="make a token and the line of a tokens file for it")
    )
    _add_keys(commands.add_parser("keys", help="make a pair of CURVE keys"))
    _add_conformance(
        commands.add_parser("conformance", help="test whether a server keeps the protocol")
    )
    _add_capacity(commands.add_parser("capacity", help="simulate many robots on many replicas"))
    return parser


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="whose it is, for logs and records")
    parser.add_argument("--role", choices=("observe", "plan", "operate"), default="plan")

    def run(options: argparse.Namespace) -> int:
        token, entry = make_token(options.name, options.role)
        _print(f"- {{name: {entry.name}, role: {entry.role}, sha256: {entry.sha256}}}")
        _print(f"# The token, shown this once: {token}", sys.stderr)
        return 0

    parser.set_defaults(run=run)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="whose they are")
    parser.add_argument("--folder", type=Path, default=Path("keys"))

    def run(options: argparse.Namespace) -> int:
        try:
            public, secret = make_keys(options.folder, options.name)
        except OSError as error:
            _print(str(error), sys.stderr)
            return 1
        _print(f"{public}         for the other side (a robot's: into the server's curve_clients)")
        _print(f"{secret}  for {options.name} alone")
        return 0

    parser.set_defaults(run=run)


def _add_conformance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("endpoint", help="ZMQ endpoint, for example tcp://127.0.0.1:5555")
    parser.add_argument(
        "--http", help="URL of its HTTP API; without it, what needs goals is left out"
    )
    parser.add_argument("--token", help="where the server wants one")

    def run(options: argparse.Namespace) -> int:
        target = Target(options.endpoint, options.http, options.token)
        results = run_checks(target)
        for result in results:
            _print(f"{'pass' if result.problem is None else 'FAIL'}  {result.rule}")
            if result.problem is not None:
                _print(f"      {result.problem}")
        failed = sum(result.problem is not None for result in results)
        _print(f"{len(results) - failed} of {len(results)} rules kept")
        return 1 if failed else 0

    parser.set_defaults(run=run)


def _add_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robots", type=int, default=10_000)
    parser.add_argument("--period-s", type=float, default=1.0, help="control period [s]")
    parser.add_argument(
        "--deadline-ms", type=float, default=None, help="default: the control period"
    )
    parser.add_argument("--fixed-ms", type=float, required=True, help="of a batch of any size [ms]")
    parser.add_argument(
        "--per-robot-ms", type=float, required=True, help="of every robot in it [ms]"
    )
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--duration-s", type=float, default=60.0, help="simulated time [s]")
    parser.add_argument("--seed", type=int, default=0)

    def run(options: argparse.Namespace) -> int:
        _print(simulate_from_options(options))
        return 0

    parser.set_defaults(run=run)


def _print(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
