"""What the worker remembers of a session's last observations: context for the next plan, and a check of the model."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.poses import difference
from planner_server.plan_request import PlanRequest

_TELEPORT = 1.5  # actions beyond this multiple of the limits are no step of this robot
_TRANSLATION = slice(0, 3)


@dataclass(frozen=True, eq=False)
class Seen:
    """An observation: tokens `[N, D]` and pose `[7]`."""

    tokens: Tensor
    state: Tensor


@dataclass(eq=False)
class Memory:
    """One session's last observations and its last plan."""

    epoch: int
    seen: deque[Seen] = field(default_factory=deque)
    actions: NDArray[np.float64] | None = None
    goal_sha256: str = ""


class Memories:
    """Memories of the sessions that were planned for last; used by the worker's thread only.

    Args:
        most: Sessions remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def recall(self, request: PlanRequest) -> Memory:
        """Return what is known of the session since its last hello; nothing is kept of single plans."""
        if request.session_id is None:
            return Memory(request.epoch)
        memory = self._memories.pop(request.session_id, None)
        if memory is None or memory.epoch != request.epoch:
            memory = Memory(request.epoch)
        self._memories[request.session_id] = memory
        if len(self._memories) > self._most:
            self._memories.popitem(last=False)
        return memory


def step_between(before: Tensor, after: Tensor, max_step: tuple[float, ...]) -> Tensor | None:
    """Return the action `[7]` that led from one pose to the next; None where no action of this robot does."""
    action = difference(before, after)
    limit_m = max(max_step[_TRANSLATION])
    moved_m = float(action[_TRANSLATION].abs().max())
    return action if bool(torch.isfinite(action).all()) and moved_m <= _TELEPORT * limit_m else None


def context_of(
    seen: Iterable[Seen], newest: Seen, most: int, max_step: tuple[float, ...]
) -> tuple[list[Seen], list[Tensor]]:
    """Return up to `most` consecutive observations, oldest first, and the actions `[7]` between them.

    Args:
        seen: Earlier observations, oldest first.
        newest: The observation to plan from.
        most: Observations conditioned on.
        max_step: Box of actions `[7]` [m, rad, closedness].
    """
    chain = [newest]
    actions: list[Tensor] = []
    for earlier in reversed(list(seen)):
        if len(chain) >= most:
            break
        action = step_between(earlier.state, chain[0].state, max_step)
        if action is None:
            break
        chain.insert(0, earlier)
        actions.insert(0, action)
    return chain, actions


def remember(memory: Memory, newest: Seen, request: PlanRequest) -> None:
    """Keep an observation for the next plan."""
    memory.seen.append(newest)
    while len(memory.seen) > max(1, request.options.context):
        memory.seen.popleft()
