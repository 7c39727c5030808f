"""What an arm asks of its gripper: two intents, of which the newest wins, and no waiting."""

from enum import Enum
from typing import Protocol


class Intent(str, Enum):
    """What the fingers are to do."""

    OPEN = "open"
    GRASP = "grasp"


class Hand(Protocol):
    """A two-finger gripper, driven from a thread of its own."""

    def start(self) -> None:
        """Connect and begin; nothing moves. Raises `ArmError` with the remedy."""

    def want(self, intent: Intent) -> None:
        """Ask for `intent`; returns at once, replaces an intent not yet begun."""

    def halt(self) -> None:
        """End what is under way where the hand can, and drop what is not begun; returns at once.

        Fingers that hold something keep it.
        """

    def closedness(self) -> float:
        """Newest measured closedness, 0 open to 1 closed. Raises `ArmError` when it was lost."""

    def is_holding(self) -> bool:
        """Whether the fingers have closed on something."""

    def is_busy(self) -> bool:
        """Whether a command is under way or waiting."""

    def end(self) -> None:
        """End the thread; the fingers keep what they hold."""
