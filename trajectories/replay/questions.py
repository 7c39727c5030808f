"""An episode cut into questions: from this frame, how do you get to that one?

Nothing is executed (open loop): every step asks anew from what the camera recorded, as if the robot were live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectories.cameras import CameraStream
from trajectories.episode import Episode
from trajectories.poses import POSE_DIM
from trajectories.replay.errors import ReplayError

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

TO_END = "end"


@dataclass(frozen=True)
class Span:
    """One step's place in the episode: begin and goal in control periods; see `StepResult.is_tail`."""

    step: int
    goal_step: int
    is_tail: bool


@dataclass(frozen=True, eq=False)
class Question:
    """What the planner is asked, and what the robot did.

    Attributes:
        episode: Name of the episode.
        span: Begin and goal.
        time_s: Recorded time of the begin [s].
        frame: uint8 RGB `[H, W, 3]` at the begin.
        state: Pose `[7]` at the begin.
        goal: Frame at the goal.
        next_frame: Frame one control period later, what the recorded action led to.
        last_frame: The episode's last frame.
        recorded: Recorded actions `[H, 7]`, at rest after the episode's end.
        previous: Recorded action `[7]` that led here; None at the first step.
        seed: Of this step's random numbers.
    """

    episode: str
    span: Span
    time_s: float
    frame: Frame
    state: Array
    goal: Frame
    next_frame: Frame
    last_frame: Frame
    recorded: Array
    previous: Array | None
    seed: int


def spans(length: int, horizon: int, goal_steps: int | str, every: int = 1) -> list[Span]:
    """Cut an episode of `length` control steps into spans.

    Args:
        length: Control steps of the episode, K.
        horizon: Actions planned, H.
        goal_steps: Control periods from begin to goal, at least H; `end` takes the last frame as every goal.
        every: Ask at every n-th step.
    """
    last = length - 1
    return [
        Span(
            step=step,
            goal_step=last if goal_steps == TO_END else min(step + int(goal_steps), last),
            is_tail=step + horizon > last,
        )
        for step in range(0, last, every)
    ]


def check_goal_steps(goal_steps: int | str, horizon: int) -> None:
    """Refuse goals that are nearer than a plan reaches.

    Raises:
        ReplayError: They are.
    """
    if goal_steps != TO_END and int(goal_steps) < horizon:
        raise ReplayError(
            f"goals {goal_steps} steps ahead are nearer than the {horizon} steps planned; choose --goal-steps "
            f"{horizon} or more, or a shorter horizon (PLANNER_HORIZON)"
        )


def ask(
    episode: Episode, view: str, asked: Sequence[Span], horizon: int, seed: int = 0
) -> Iterator[Question]:
    """Yield an episode's questions in order; at most the frames from begin to goal are held at once.

    Args:
        episode: One row per control period.
        view: Camera to look through.
        asked: Ascending.
        horizon: Actions to compare, H.
        seed: Added to every step's number.
    """
    actions = episode.actions
    camera = episode.camera(view)
    last_frame = camera.read([len(episode) - 1])[0]
    frames = _FrameWindow(camera, {len(episode) - 1: last_frame})
    for span in asked:
        ahead = actions[span.step : span.step + horizon]
        recorded = np.zeros((horizon, POSE_DIM))
        recorded[: len(ahead)] = ahead
        yield Question(
            episode=episode.name,
            span=span,
            time_s=float(episode.times_s[span.step]),
            frame=frames.at(span.step),
            state=episode.states[span.step],
            goal=frames.at(span.goal_step),
            next_frame=frames.at(span.step + 1),
            last_frame=last_frame,
            recorded=recorded,
            previous=actions[span.step - 1] if span.step else None,
            seed=seed + span.step,
        )
        frames.forget_until(span.step)


class _FrameWindow:
    """Frames of one camera, each decoded once: read forward, kept until it is passed."""

    def __init__(self, camera: CameraStream, kept: dict[int, Frame]) -> None:
        self._camera = camera
        self._kept = kept

    def at(self, row: int) -> Frame:
        if row not in self._kept:
            self._kept[row] = self._camera.read([row])[0]
        return self._kept[row]

    def forget_until(self, row: int) -> None:
        for kept in [kept for kept in self._kept if kept <= row]:
            del self._kept[kept]
