"""What is evaluated, and how it is found: `package.module:factory?option=value`.

Knows neither the simulator nor any planner. Everything in here is safe to import in the process
that a policy runs in, which must not be able to see the physics.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simulation.errors import PolicyError

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]


class Policy(Protocol):
    """Turns what a camera and a robot report into actions."""

    def begin(self, goals: Sequence[Frame]) -> None:
        """Take the goal images of a new episode, uint8 RGB `[256, 256, 3]` each, in order."""

    def act(self, frame: Frame, state: Array, goal_index: int) -> Array:
        """Return an action `[7]` towards goal `goal_index` from a frame and a state `[7]`."""


@runtime_checkable
class Telling(Protocol):
    """A policy that says more than its actions; what it says is reported and judges nothing.

    Attributes:
        description: What it is: model, weights' hash, planner. Must be JSON.
        numbers: About the last action: `energy_now` of the frame, `energy` that the action was
            predicted to lead to, `plan_ms`.
    """

    description: Mapping[str, Any]
    numbers: Mapping[str, float]


class Imagining(Protocol):
    """A policy that can draw what it expects of actions."""

    def imagine(self, frame: Frame, state: Array, actions: Array) -> Frame | None:
        """Return pictures uint8 RGB `[H, h, w, 3]` of what follows actions `[H, 7]`; None: no decoder.

        Fewer pictures than actions come back where the model cannot look so far ahead.
        """
        ...


@dataclass(frozen=True)
class PolicySpec:
    """A policy by name.

    Attributes:
        module: Python module.
        factory: Function in it; it is called with the options and returns the policy.
        options: Keyword arguments, JSON values.
    """

    module: str
    factory: str
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> PolicySpec:
        """Read `package.module:factory?key=value&key=value`; a value that is no JSON is a string.

        Raises:
            PolicyError: The text has another form.
        """
        path, _, query = text.partition("?")
        module, colon, factory = path.partition(":")
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        if not (module and colon and factory) or any(not equals for _, equals, _ in pairs):
            raise PolicyError(
                f"{text!r} names no policy; write package.module:factory or "
                "package.module:factory?option=value&option=value"
            )
        return cls(module, factory, {key: _value(value) for key, _, value in pairs})

    def __str__(self) -> str:
        pairs = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in self.options.items()
        ]
        query = f"?{'&'.join(pairs)}" if pairs else ""
        return f"{self.module}:{self.factory}{query}"

    def having(self, **options: Any) -> PolicySpec:
        """Return the same with further options, or others in their place."""
        return PolicySpec(self.module, self.factory, {**self.options, **options})

    def make(self, *inside: Any) -> Any:
        """Call the factory with `inside` and the options.

        Raises:
            PolicyError: Module or factory does not exist, or the options do not fit.
        """
        factory = self._find()
        try:
            return factory(*inside, **self.options)
        except TypeError as error:
            raise PolicyError(f"{self} cannot be made: {error}") from error

    def _find(self) -> Callable[..., Any]:
        try:
            found = getattr(importlib.import_module(self.module), self.factory)
        except (ImportError, AttributeError) as error:
            raise PolicyError(
                f"{self} does not exist ({error}); name a function that can be imported from here. "
                "Policies that plan need pip install 'vjepa-planner[sim,server]'"
            ) from error
        if not callable(found):
            raise PolicyError(f"{self} is no function but {found!r}")
        made: Callable[..., Any] = found
        return made


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
