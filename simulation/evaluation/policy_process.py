"""A policy in a process of its own, at the other end of a pipe that carries arrays only.

What crosses: goal images; per step a frame, a state and the number of the current goal; back come
an action and a few numbers. The seed, the poses behind the goals, the object and the physics stay
here, and the other process never loads the simulator. Messages are NumPy archives without pickles.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from simulation.errors import PolicyError
from simulation.evaluation.policy import Policy, PolicySpec, Telling

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]
Message = Mapping[str, NDArray[Any]]

STATE_SHAPE = (7,)
_PATIENCE_S = 10.0


class PolicyProcess:
    """A `Policy` that lives elsewhere; close it, or use it as a context manager.

    Args:
        spec: Which policy; it is made in the other process.

    Raises:
        PolicyError: It could not be made; the message has the reason.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self._spec = spec
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, str(spec)), daemon=True)
        self._process.start()
        theirs.close()
        self.numbers: dict[str, float] = {}
        self.description: dict[str, Any] = json.loads(_text(self._receive()["description"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, goals: Sequence[Frame]) -> None:
        """Send the goal images of a new episode."""
        self._ask({"goals": np.stack([_frame(goal) for goal in goals])})

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Send what the robot sees and measures; return the action `[7]`."""
        answer = self._ask(
            {"frame": _frame(frame), "state": _state(state), "goal_index": np.array(goal_index)}
        )
        self.numbers = json.loads(_text(answer["numbers"]))
        return np.asarray(answer["action"], np.float64)

    def imagine(self, frame: Frame, state: Array, actions: Array) -> Frame | None:
        """Return what the policy expects of `actions`; see `Imagining`."""
        answer = self._ask(
            {
                "frame": _frame(frame),
                "state": _state(state),
                "actions": np.asarray(actions, np.float64),
            }
        )
        return np.asarray(answer["pictures"], np.uint8) if "pictures" in answer else None

    def close(self) -> None:
        """End the other process."""
        self._pipe.close()  # it leaves at the end of the pipe
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, message: Message) -> Message:
        try:
            self._pipe.send_bytes(pack(message))
        except OSError as error:
            raise PolicyError(f"{self._spec} is gone: {error}") from error
        return self._receive()

    def _receive(self) -> Message:
        try:
            answer = unpack(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise PolicyError(
                f"the process of {self._spec} ended; its last words are above"
            ) from error
        if "error" in answer:
            raise PolicyError(f"{self._spec}: {_text(answer['error'])}")
        return answer


def serve(pipe: Connection, spec: str) -> None:
    """Make the policy and answer until the pipe closes: the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the business of the first process
    try:
        policy: Policy = PolicySpec.parse(spec).make()
    except Exception as error:
        pipe.send_bytes(pack({"error": np.array(f"{type(error).__name__}: {error}")}))
        raise
    description = dict(policy.description) if isinstance(policy, Telling) else {}
    pipe.send_bytes(pack({"description": np.array(json.dumps(description))}))
    while True:
        try:
            question = unpack(pipe.recv_bytes())
        except EOFError:
            return
        try:
            answer = _answer(policy, question)
        except Exception as error:
            pipe.send_bytes(pack({"error": np.array(f"{type(error).__name__}: {error}")}))
            raise
        pipe.send_bytes(pack(answer))


def pack(message: Message) -> bytes:
    """Write arrays by name."""
    file = io.BytesIO()
    np.savez(file, **message)  # type: ignore[arg-type]  # the stubs take the names for options
    return file.getvalue()


def unpack(data: bytes) -> Message:
    """Read what `pack` wrote; anything but plain arrays is refused by NumPy."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _answer(policy: Policy, question: Message) -> Message:
    if "goals" in question:
        policy.begin(list(question["goals"]))
        return {}
    frame, state = question["frame"], question["state"]
    if "actions" in question:
        imagine = getattr(policy, "imagine", None)
        pictures = None if imagine is None else imagine(frame, state, question["actions"])
        return {} if pictures is None else {"pictures": pictures}
    action = policy.act(frame, state, int(question["goal_index"]))
    numbers = dict(policy.numbers) if isinstance(policy, Telling) else {}
    return {"action": np.asarray(action, np.float64), "numbers": np.array(json.dumps(numbers))}


def _frame(frame: Frame) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3:
        raise PolicyError(f"a frame is uint8 [H, W, 3], not {frame.dtype} {list(frame.shape)}")
    return frame


def _state(state: Array) -> Array:
    if state.shape != STATE_SHAPE:
        raise PolicyError(f"a state is float64 [7], not {list(state.shape)}")
    return np.asarray(state, np.float64)


def _text(value: NDArray[Any]) -> str:
    return str(value.item())
