"""Recorded episodes once more: the physics is exact, so its actions are enough to see one again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simulation.episodes import halve
from simulation.evaluation.episode import apply_gripper_rule
from simulation.evaluation.jobs import Record, lay_out
from simulation.evaluation.methods import Method
from simulation.stepper import OfflineWorkcell
from simulation.verdicts import judge

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_FRAME_MS = 450
_LAST_FRAME_MS = 1800
_QUALITY = 72
_GAP_PX = 4


@dataclass(frozen=True)
class Look:
    """One moment of a replay: what the camera sees, the state, and which goal image counts."""

    frame: Frame
    state: Array
    goal_index: int


@dataclass(frozen=True)
class Replay:
    """An episode seen again.

    Attributes:
        looks: At every plan, after every motion of the gripper rule, and at the end.
        actions: What was done from each look on, `[7]`; None where the gripper rule followed.
        goals: The goal images.
        is_faithful: Whether the physics came to the same verdict.
    """

    looks: tuple[Look, ...]
    actions: tuple[Array | None, ...]
    goals: tuple[Frame, ...]
    is_faithful: bool


def replay(record: Record, method: Method) -> Replay:
    """Carry the actions of a record out again."""
    task = lay_out(record.job)
    workcell = OfflineWorkcell(task.variation)
    workcell.reset(task.start)
    looks: list[Look] = []
    actions: list[Array | None] = []
    for goal_index, sub_goal in enumerate(task.sub_goals):
        for step in record.result.steps:
            if step.goal_index == goal_index:
                looks.append(Look(workcell.render(), workcell.state(), goal_index))
                actions.append(np.array(step.action))
                workcell.act(np.array(step.action))
        if method.order.has_gripper_rule and sub_goal.gripper_rule is not None:
            looks.append(Look(workcell.render(), workcell.state(), goal_index))
            actions.append(None)
            apply_gripper_rule(workcell, sub_goal)
    looks.append(Look(workcell.render(), workcell.state(), len(task.sub_goals) - 1))
    return Replay(
        tuple(looks),
        tuple(actions),
        tuple(goal.image for goal in task.sub_goals),
        judge(task, workcell.truth()).is_success == record.result.verdict.is_success,
    )


def film(episode: Replay) -> bytes:
    """Return the replay beside its goal images as an animated WebP."""
    pictures = [
        Image.fromarray(beside(look.frame, episode.goals[look.goal_index]))
        for look in episode.looks
    ]
    durations = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_FRAME_MS]
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        quality=_QUALITY,
        method=3,
    )
    return file.getvalue()


def strip(episode: Replay, count: int) -> Frame:
    """Return `count` moments of a replay side by side and its last goal, 128 px each."""
    places = np.linspace(0, len(episode.looks) - 1, count).round().astype(int)
    frames = [halve(episode.looks[place].frame) for place in places]
    return beside(*frames, halve(episode.goals[-1]))


def beside(*frames: Frame) -> Frame:
    """Put pictures of one height side by side with white gaps."""
    height = frames[0].shape[0]
    gap = np.full((height, _GAP_PX, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, gap)][:-1]
    return np.concatenate(parts, axis=1)


def stack(rows: Sequence[Frame]) -> Frame:
    """Put pictures of one width one below the other with white gaps."""
    gap = np.full((_GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, gap)][:-1]
    return np.concatenate(parts, axis=0)
