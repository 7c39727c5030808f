"""Numbers on the command line, refused by name where nothing could be done with them."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError


def read_seed(text: str) -> int:
    """Read the seed of something that is drawn."""
    return _whole(text, 0)


def read_count(text: str) -> int:
    """Read how many of something there shall be."""
    return _whole(text, 1)


def read_rate(text: str) -> float:
    """Read how often something happens [1/s]."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text}; a number above 0 is needed")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ArgumentTypeError(f"{text}; a whole number of at least {least} is needed")
    return value
