"""Everything that can go wrong on the robot's side, one base class.

Each message names the offending value, what is allowed and what to do next. The module knows no
other module of the package, so the wire protocol (which the server imports) stays light.
"""


class RobotClientError(Exception):
    """Base of every error this package raises on purpose."""


class ProtocolError(RobotClientError):
    """A message breaks the wire protocol; `code` is what an `error` reply would carry."""

    def __init__(self, code: str, message: str, *, seq: int | None = None) -> None:
        """Keep the machine-readable part beside the sentence.

        Args:
            code: One of `protocol.ERROR_CODES`.
            message: Names the field, the value and what is allowed.
            seq: Sequence number of the offending observation, where it could be read.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.seq = seq

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ServerUnreachableError(RobotClientError):
    """No planner server answered at the address within the time allowed."""


class EncryptionError(ServerUnreachableError):
    """There is a server, but it and this robot do not agree about keys; trying again does not help."""


class ServerRefusedError(RobotClientError):
    """The server answered with an error; `code` is the one from the wire."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code for callers that decide by it, the sentence for people."""
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ArmError(RobotClientError):
    """The arm or its gripper cannot be reached or refused a command."""


class ReflexError(ArmError):
    """The arm has stopped itself (contact, a limit); it stays stopped until somebody recovers it."""


class GripperStuckError(ArmError):
    """The gripper did not finish a command in time."""


class CameraError(RobotClientError):
    """The camera cannot be opened or delivers nothing usable."""


class StaleFrameError(CameraError):
    """The newest frame is older than the caller allows; acting on it would be acting blind."""


class TaskError(RobotClientError):
    """A task file or its combination with the command line cannot be used."""


class RecordingError(RobotClientError):
    """A recorded episode or a calibration cannot be read or written."""


class RunError(RobotClientError):
    """A run could not be started or finished: a process, a file or a goal is missing."""
