"""What the control loop hands out: one record per pass, events between them, and how a run ended."""

import time
from dataclasses import dataclass, field
from typing import Any

from robot_client.arms.arm import ArmState
from robot_client.cameras.camera import CapturedFrame
from robot_client.protocol import Act
from robot_client.safety import FilteredAction
from robot_client.tasks import GripperAction


@dataclass(eq=False)
class StepRecord:
    """One pass of the loop, as it is recorded; what did not happen stays None.

    Attributes:
        step: Plans executed before this pass.
        goal_index: Sub-goal under way.
        captured: The frame that was sent.
        state: The measured state that was sent.
        act: The server's plan.
        filtered: What safety made of it.
        is_ahead: The plan was made during the motion before, from an imagined frame.
        is_executed: Whether the arm was told to move.
        left_m: How far from its target the motion ended [m].
        cut_short: Why it ended short of its target; None where it did not.
        gripper: What the gripper was told.
        latency_ms: From the frame's capture to the plan's arrival [ms].
        timings_ms: Time of each stage [ms]: look, ask, filter, command.
        problem: Why nothing was executed, where that was not intended.
    """

    step: int
    goal_index: int
    captured: CapturedFrame | None = None
    state: ArmState | None = None
    act: Act | None = None
    filtered: FilteredAction | None = None
    is_ahead: bool = False
    is_executed: bool = False
    left_m: float | None = None
    cut_short: str | None = None
    gripper: GripperAction = "hold"
    latency_ms: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened besides the passes: an order, a lost server, a reflex, a recovery.

    Attributes:
        kind: One word, e.g. "pause", "hold", "reflex".
        text: For people.
        values: Numbers that belong to it.
        t: `time.monotonic()` [s].
    """

    kind: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)
    t: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        is_complete: Every sub-goal had its turn.
        reason: One sentence.
        steps: Plans followed; in a dry run, plans that were only looked at.
        missed: Control periods without a usable plan.
        is_dry_run: The arm was never told to move.
        is_success: What the task's own check says; None where it has none.
        retries: Sub-goals that were begun again.
    """

    is_complete: bool
    reason: str
    steps: int
    missed: int
    is_dry_run: bool
    is_success: bool | None = None
    retries: int = 0
