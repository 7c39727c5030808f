"""The Franka Hand, driven from a thread of its own so that the control loop never waits for it.

The hand accepts no stream of widths: it executes one command at a time and is slow. Two intents are
enough for manipulation, `grasp` (close with force, keep squeezing) and `open`; the newest wins, and
a command under way is let finish. The hand's own stop is no way out: it does not stop reliably
(libfranka issues 52 and 111), lets go of what is gripped, and where it does stop, a server may
forget the answer to the stopped command, for which franky then waits for ever.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import franky

from robot_client.arms.frames import closedness_from_width
from robot_client.arms.hand import Intent
from robot_client.errors import ArmError

logger = logging.getLogger(__name__)

#: What franky raises; its motion planner throws plain runtime errors.
FRANKY_ERRORS = (franky.Exception, RuntimeError)

_POLL_S = 0.02
_HOMING_S = 30.0
_ANY_WIDTH_M = 1.0  # a grasp counts whatever the object's size


@dataclass(frozen=True)
class GripperSettings:
    """How the hand moves.

    Attributes:
        speed_m_s: Finger speed.
        force_n: Grasping force kept up after closing [N]; the hand's continuous limit is 70.
    """

    speed_m_s: float = 0.1
    force_n: float = 30.0


class GripperThread:
    """Runs the newest intent and keeps the newest finger width."""

    def __init__(self, host: str, settings: GripperSettings) -> None:
        self._host = host
        self._settings = settings
        self._changed = threading.Condition()
        self._wanted: Intent | None = None
        self._is_busy = False
        self._is_ending = False
        self._failure: str | None = None
        self._closedness = 0.0
        self._is_holding = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Connect to the hand and start the thread.

        Raises:
            ArmError: The hand does not answer, or is not homed.
        """
        try:
            gripper = franky.Gripper(self._host)
            self._read(gripper)
        except FRANKY_ERRORS as error:
            text = f"no Franka Hand at {self._host}: {error}. Is the hand enabled in Desk?"
            raise ArmError(text) from error
        self._is_ending, self._is_busy = False, False
        self._wanted = self._failure = None
        self._thread = threading.Thread(
            target=self._run, args=(gripper,), name="gripper", daemon=True
        )
        self._thread.start()

    def want(self, intent: Intent) -> None:
        """Ask for `intent`; returns at once, replaces an intent not yet begun."""
        with self._changed:
            self._wanted = intent
            self._changed.notify_all()

    def halt(self) -> None:
        """Drop a command that is not begun; one under way finishes, see above."""
        with self._changed:
            self._wanted = None

    def closedness(self) -> float:
        """Newest measured closedness, 0 open to 1 closed.

        Raises:
            ArmError: The thread lost the hand.
        """
        with self._changed:
            if self._failure is not None:
                raise ArmError(f"the Franka Hand at {self._host} was lost: {self._failure}")
            return self._closedness

    def is_holding(self) -> bool:
        """Whether the fingers have closed on something, as the hand itself says."""
        with self._changed:
            return self._is_holding

    def home(self) -> None:
        """Let the hand find its own width; only while the thread does not run.

        Raises:
            ArmError: The hand does not answer or cannot.
            KeyboardInterrupt: Somebody wanted it to end, which this hand cannot.
        """
        try:
            gripper = franky.Gripper(self._host)  # has to outlive what it does
            homing = gripper.homing_async()
            try:
                while not homing.wait(_POLL_S):  # in slices, so that Ctrl+C is heard
                    time.sleep(_POLL_S)
            except KeyboardInterrupt:
                logger.warning("the hand homes itself to the end: keep away from its fingers")
                homing.wait(_HOMING_S)
                raise
            is_done = homing.get()
        except FRANKY_ERRORS as error:
            raise ArmError(f"the Franka Hand at {self._host} cannot be homed: {error}") from error
        if not is_done:
            raise ArmError(f"the Franka Hand at {self._host} did not finish homing; look at it")

    def is_busy(self) -> bool:
        """Whether a command is under way or waiting."""
        with self._changed:
            return self._is_busy or self._wanted is not None

    def end(self) -> None:
        """End the thread; the fingers keep what they hold."""
        if self._thread is None:
            return
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join(timeout=3.0)
        self._thread = None

    def _run(self, gripper: Any) -> None:
        try:
            while (intent := self._next(gripper)) is not self._ENDED:
                if intent is not None:
                    self._execute(gripper, intent)
        except (*FRANKY_ERRORS, ArmError) as error:
            logger.error("gripper lost: %s", error)
            with self._changed:
                self._failure, self._is_busy, self._wanted = str(error), False, None

    _ENDED = object()

    def _next(self, gripper: Any) -> Any:
        """The next intent, None when there is none yet, `_ENDED` when the thread is to end."""
        with self._changed:
            if self._wanted is None and not self._is_ending:
                self._changed.wait(timeout=_POLL_S)
            if self._is_ending:
                return self._ENDED
            intent, self._wanted = self._wanted, None
            self._is_busy = intent is not None
        self._read(gripper)
        return intent

    def _execute(self, gripper: Any, intent: Intent) -> None:
        settings = self._settings
        if intent is Intent.GRASP:
            future = gripper.grasp_async(
                0.0, settings.speed_m_s, settings.force_n, _ANY_WIDTH_M, _ANY_WIDTH_M
            )
        else:
            future = gripper.open_async(settings.speed_m_s)
        while not future.wait(_POLL_S):
            self._read(gripper)
            time.sleep(_POLL_S)
        self._read(gripper)
        try:
            future.get()
        except franky.CommandException as error:
            # The hand refuses for example to grasp when not homed; the arm is not affected.
            logger.warning("gripper refused to %s: %s", intent.value, error)
        with self._changed:
            self._is_busy = False

    def _read(self, gripper: Any) -> None:
        state = gripper.state
        if not state.max_width > 0.0:
            text = f"the Franka Hand at {self._host} says that it opens {state.max_width} m wide"
            raise ArmError(f"{text}; home it in Desk, then run again")
        closedness = closedness_from_width(state.width, state.max_width)
        with self._changed:
            self._closedness, self._is_holding = closedness, bool(state.is_grasped)
