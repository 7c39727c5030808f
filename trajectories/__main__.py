"""Recorded episodes: index, check, look at, convert and cut out.

A path is a folder or a URL that fsspec knows (hf://, gs://, ...); PATH#3 is its fourth episode.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import get_args

from trajectories import commands
from trajectories.conversion import FORMATS
from trajectories.errors import TrajectoryError
from trajectories.video_writer import Codec

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for an error, 2 for too many bad episodes."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(options.run(options))
    except TrajectoryError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {error}; pip install 'vjepa-planner[data]'\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error}; is the path right and the disk writable?\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where it stood\n")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trajectories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_subparsers(required=True, metavar="COMMAND").add_parser
    _add_index(add("index", help="write what every episode is into a Parquet file"))
    _add_check(add("check", help="decode everything and say what is wrong"))
    _add_info(add("info", help="describe a data set or one episode"))
    _add_convert(add("convert", help="write all episodes in another format"))
    _add_export(add("export", help="write some episodes, chosen by what they are"))
    _add_show(add("show", help="draw one episode: frames, pose and gripper"))
    _add_recover(add("recover", help="finish recordings that were interrupted"))
    return parser


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file")
    parser.add_argument("--frames", action="store_true", help="decode every frame, too")
    _add_workers(parser)
    _add_max_bad(parser, None, "any number")
    parser.set_defaults(run=commands.index)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")
    _add_workers(parser)
    _add_max_bad(parser, 0, "0")
    parser.set_defaults(run=commands.check)


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")
    parser.set_defaults(run=commands.info)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_conversion(parser)
    parser.set_defaults(run=commands.convert)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_conversion(parser)
    parser.add_argument("--episodes", help="numbers, for example 0,4,10-19")
    parser.add_argument("--index", type=Path, help="an index of the source, to choose by")
    parser.add_argument("--task", help="keep tasks that contain this regular expression")
    parser.add_argument("--success", action="store_true", help="keep successful ones")
    parser.add_argument("--min-rows", type=int, default=0, help="keep episodes this long")
    parser.add_argument("--limit", type=_count, help="keep at most so many")
    parser.set_defaults(run=commands.export)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="with #NUMBER where there are several episodes")
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    parser.add_argument("--columns", type=_positive, default=8, help="frames per camera, default 8")
    parser.set_defaults(run=commands.show)


def _add_recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="an episode's folder, or one that holds several")
    parser.set_defaults(run=commands.recover)


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")
    parser.add_argument("output", type=Path, help="folder; goes on where it stood if it exists")
    parser.add_argument("--to", choices=FORMATS, required=True)
    parser.add_argument("--period-s", type=float, help="thin out to this control period [s]")
    parser.add_argument("--fps", type=float, help="rows/s of a LeRobot data set; default: measured")
    parser.add_argument("--codec", choices=get_args(Codec), default="h264", help="default h264")
    _add_max_bad(parser, 0, "0")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    count = os.cpu_count() or 1
    parser.add_argument("--workers", type=_count, default=count, help=f"processes, default {count}")


def _add_max_bad(parser: argparse.ArgumentParser, default: int | None, named: str) -> None:
    parser.add_argument(
        "--max-bad", type=int, default=default, help=f"bad episodes to bear, default {named}"
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}; a whole number of at least 0 is needed")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError(f"{text}; a whole number of at least 1 is needed")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
