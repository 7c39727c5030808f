"""A Robotiq 2F gripper on a serial port: Modbus RTU, standard library only.

Registers and their bits: Robotiq 2F-85/2F-140 instruction manual, section 4. Position 0 is open,
255 closed, so closedness is the position's share. The arm's F_T_EE and the task's
`fingertip_depth_m` must be those of this gripper. Its fingers go all the way when it is activated,
once after power-on, so that waits for its first command.
"""

import logging
import os
import select
import struct
import termios
import threading
import time
import tty
from pathlib import Path

from robot_client.arms.hand import Intent
from robot_client.errors import ArmError

logger = logging.getLogger(__name__)

_SLAVE = 9
_COMMAND_REGISTER, _STATUS_REGISTER = 0x03E8, 0x07D0
_ACTIVATE, _GO = 0x01, 0x09  # rACT, and with it rGTO; without rGTO the fingers stand
_FULL = 255
_ACTIVE = 0x3  # gSTA
_MOVING, _HELD_CLOSING = 0, 2  # gOBJ
_POLL_S = 0.05
_REPLY_TIMEOUT_S = 0.3
_ACTIVATION_TIMEOUT_S = 10.0
_ATTEMPTS = 3


class RobotiqThread:
    """Drives a Robotiq; see `hand.Hand` for what the calls promise.

    Args:
        port: Serial device, e.g. /dev/ttyUSB0, 115200 baud.
        speed: 0 to 255.
        force: 0 to 255.
    """

    def __init__(self, port: Path, speed: int = 255, force: int = 100) -> None:
        self._port = port
        self._speed = speed
        self._force = force
        self._line = -1
        self._lock = threading.Lock()
        self._wanted: Intent | None = None
        self._is_halting = False
        self._is_busy = False
        self._closedness = 0.0
        self._is_holding = False
        self._failure: str | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the port, read, begin; nothing moves.

        Raises:
            ArmError: It does not answer.
        """
        if not self._open():
            logger.warning(
                "the Robotiq at %s is not active: its fingers open and close fully before its first "
                "command, or now by `robot-client home-gripper --robotiq %s`",
                *(self._port, self._port),
            )
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="robotiq", daemon=True)
        self._thread.start()

    def want(self, intent: Intent) -> None:
        """Ask for `intent`; the newest wins."""
        with self._lock:
            self._wanted, self._is_busy, self._is_halting = intent, True, False

    def halt(self) -> None:
        """Let the fingers stand where they are, and drop what is not begun; what is held stays."""
        with self._lock:
            self._wanted, self._is_halting = None, self._is_busy

    def home(self) -> None:
        """Activate the gripper where it is not; only while the thread does not run.

        Raises:
            ArmError: It does not answer, or does not become active.
        """
        try:
            if not self._open():
                self._activate()
        except OSError as error:
            raise ArmError(f"the Robotiq at {self._port} was not activated: {error}") from error
        finally:
            self.end()

    def closedness(self) -> float:
        """Newest measured closedness.

        Raises:
            ArmError: The gripper was lost.
        """
        with self._lock:
            if self._failure is not None:
                raise ArmError(f"the Robotiq at {self._port} was lost: {self._failure}")
            return self._closedness

    def is_holding(self) -> bool:
        """Whether the fingers stopped on something while closing."""
        with self._lock:
            return self._is_holding

    def is_busy(self) -> bool:
        """Whether the fingers still move or are about to."""
        with self._lock:
            return self._is_busy and self._failure is None

    def end(self) -> None:
        """End the thread and free the port."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(timeout=2.0)
            self._thread = None
        if self._line >= 0:
            os.close(self._line)
            self._line = -1

    def _open(self) -> bool:
        """Open the port and read; whether the gripper is active."""
        try:
            self._line = os.open(self._port, os.O_RDWR | os.O_NOCTTY)
            _set_up(self._line)
            self._read()
            return self._is_active()
        except (OSError, termios.error) as error:
            raise ArmError(
                f"no Robotiq gripper at {self._port}: {error}. Check power, cable and that you may "
                "open the port (group dialout)."
            ) from error

    def _run(self) -> None:
        try:
            while not self._ending.wait(_POLL_S):
                with self._lock:
                    intent, self._wanted = self._wanted, None
                if intent is not None:
                    self._execute(intent)
                self._read()
                self._obey_halt()
        except OSError as error:
            logger.error("Robotiq lost: %s", error)
            with self._lock:
                self._failure = str(error)

    def _execute(self, intent: Intent) -> None:
        if not self._is_active():
            self._activate()
        with self._lock:
            if self._is_halting:
                return
        self._command(_GO, _FULL if intent is Intent.GRASP else 0)
        time.sleep(_POLL_S)  # until the status is that of the new command

    def _obey_halt(self) -> None:
        """Stop the fingers where that was asked for; those that hold something by now keep it."""
        with self._lock:
            is_halting, self._is_halting = self._is_halting and not self._is_holding, False
        if is_halting and self._is_active():  # the same bits would begin an activation
            self._command(_ACTIVATE, 0)

    def _read(self) -> None:
        status = self._status()
        is_moving = status[0] >> 6 == _MOVING and bool(status[0] & 0x08)
        with self._lock:
            self._closedness = status[4] / _FULL
            self._is_holding = status[0] >> 6 == _HELD_CLOSING
            self._is_busy = self._wanted is not None or is_moving

    def _is_active(self) -> bool:
        return self._status()[0] >> 4 & 0x3 == _ACTIVE

    def _activate(self) -> None:
        self._command(_ACTIVATE, 0)
        deadline = time.monotonic() + _ACTIVATION_TIMEOUT_S
        while not self._is_active():
            if time.monotonic() > deadline:
                raise OSError("it does not become active")
            time.sleep(_POLL_S)

    def _command(self, action: int, position: int) -> None:
        registers = bytes([action, 0, 0, position, self._speed, self._force])
        head = struct.pack(">BBHHB", _SLAVE, 16, _COMMAND_REGISTER, 3, len(registers))
        self._ask(head + registers, 8)

    def _status(self) -> bytes:
        """Six status bytes: flags, reserved, fault, echo of the request, position, current."""
        reply = self._ask(struct.pack(">BBHH", _SLAVE, 3, _STATUS_REGISTER, 3), 11)
        return reply[3:9]

    def _ask(self, request: bytes, length: int) -> bytes:
        """Send a request and return the reply's `length` bytes, checked; try again when garbled."""
        for attempt in range(_ATTEMPTS):
            os.write(self._line, request + checksum(request))
            reply = self._receive(length)
            is_whole = len(reply) == length and checksum(reply[:-2]) == reply[-2:]
            if is_whole and reply[:2] == request[:2]:
                return reply
            logger.debug("attempt %d: garbled reply %r", attempt, reply)
        raise OSError("no answer that makes sense")

    def _receive(self, length: int) -> bytes:
        reply = b""
        deadline = time.monotonic() + _REPLY_TIMEOUT_S
        while len(reply) < length and (left_s := deadline - time.monotonic()) > 0:
            if select.select([self._line], [], [], left_s)[0]:
                reply += os.read(self._line, length - len(reply))
        return reply


def checksum(data: bytes) -> bytes:
    """CRC-16 of Modbus, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


def _set_up(line: int) -> None:
    """115200 baud, 8 bits, raw."""
    tty.setraw(line)
    attributes = termios.tcgetattr(line)
    attributes[4] = attributes[5] = termios.B115200
    termios.tcsetattr(line, termios.TCSANOW, attributes)
