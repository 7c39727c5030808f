"""The person beside the arm: asked before anything that a program must not decide alone."""

import contextlib
import select
import sys
import termios
import time
from collections.abc import Callable
from typing import Protocol

_POLL_S = 0.05


class Operator(Protocol):
    """Answers questions; `while_waiting` keeps the conversation with the server alive meanwhile."""

    def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
        """Ask for an explicit yes; anything else, and nobody there, is a no."""

    def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
        """Ask for one of `keys`; returns it.

        Args:
            question: What to show.
            keys: Letters allowed; the first one is what an empty answer means.
            while_waiting: Called over and over with a time [s] to spend.
        """


class Unattended:
    """Nobody is there: every question is answered with the last key, which must be the safe one."""

    def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
        """Nobody consents."""
        del question, while_waiting
        return False

    def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
        """The safe answer."""
        del question, while_waiting
        return keys[-1]


class Console:
    """Asks at the terminal; at the end of its input it is as if nobody were there."""

    def consents(self, question: str, while_waiting: Callable[[float], None]) -> bool:
        """Wait for a line; only the word "yes" is one."""
        _drop_typed_ahead()
        sys.stdout.write(f"{question} Type yes to agree: ")
        sys.stdout.flush()
        line = self._line(while_waiting)
        return line is not None and line.strip().lower() == "yes"

    def choose(self, question: str, keys: str, while_waiting: Callable[[float], None]) -> str:
        """Ask until one of the keys, or the end of input, comes; the last key is the safe answer."""
        _drop_typed_ahead()
        shown = "/".join([keys[0].upper(), *keys[1:]])
        while True:
            sys.stdout.write(f"{question} [{shown}] ")
            sys.stdout.flush()
            line = self._line(while_waiting)
            if line is None:
                return keys[-1]
            answer = line.strip().lower()[:1] or keys[0]
            if answer in keys:
                return answer

    @staticmethod
    def _line(while_waiting: Callable[[float], None]) -> str | None:
        """One line of input; None at its end."""
        while not select.select([sys.stdin], [], [], 0.0)[0]:
            while_waiting(_POLL_S)
        return sys.stdin.readline() or None


def _drop_typed_ahead() -> None:
    """What was typed before a question was asked is no answer to it; a pipe is not typed."""
    if sys.stdin.isatty():
        with contextlib.suppress(termios.error):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


def idle(time_s: float) -> None:
    """For questions asked while there is no server to keep company."""
    time.sleep(time_s)
