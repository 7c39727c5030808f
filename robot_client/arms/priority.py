"""Real-time priority for libfranka's 1 kHz thread, and for no other.

libfranka asks for the highest priority in the thread that connects, and relies on inheritance for the thread that
answers the arm every millisecond. Left so, the control loop, the cameras and every process the client starts would be
real-time as well: competitors that this thread could not interrupt.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Priority:
    """A thread's scheduling, as `sched(7)` has it.

    Attributes:
        policy: Such as `os.SCHED_FIFO`.
        level: 0 for ordinary threads, 1 to 99 for real-time ones.
    """

    policy: int
    level: int

    @classmethod
    def present(cls) -> "Priority":
        """That of the calling thread."""
        return cls(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)

    def take(self) -> None:
        """Give it to the calling thread, and so to what that starts from now on.

        Raises:
            PermissionError: The user may not ask for it.
        """
        os.sched_setscheduler(0, self.policy, os.sched_param(self.level))


@contextmanager
def restored() -> Iterator[None]:
    """Give the calling thread its priority back at the end of the block, whatever changed it."""
    before = Priority.present()
    try:
        yield
    finally:
        before.take()
