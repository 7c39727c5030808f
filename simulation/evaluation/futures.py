"""Pictures of what a model expected, beside what came: for models that have a decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.episodes import halve
from simulation.evaluation.jobs import Record
from simulation.evaluation.methods import Method
from simulation.evaluation.policy_process import PolicyProcess
from simulation.evaluation.replays import Replay, beside, replay, stack

Frame = NDArray[np.uint8]

_STEPS = 8  # pictures side by side


def imagined_futures(records: Sequence[Record], main: Method) -> list[tuple[str, Frame]]:
    """Draw the futures of one episode per task; nothing where the policy cannot draw.

    Args:
        records: Episodes; the first success of each task is taken, else its first episode.
        main: Their method.

    Returns:
        Captions and pictures uint8 RGB.
    """
    if main.sees_truth:
        return []
    pictures = []
    with PolicyProcess(main.spec) as policy:
        for record in _one_per_task(records, main.name):
            sheet = _sheet(policy, replay(record, main))
            if sheet is not None:
                pictures.append((f"{record.job.kind}, seed {record.job.seed}", sheet))
    return pictures


def _one_per_task(records: Sequence[Record], method: str) -> list[Record]:
    best: dict[str, Record] = {}
    for record in records:
        if record.job.method != method or record.job.condition != "seeds":
            continue
        known = best.get(record.job.kind.task)
        is_better = known is None or (
            record.result.verdict.is_success and not known.result.verdict.is_success
        )
        if is_better and record.result.steps:
            best[record.job.kind.task] = record
    return list(best.values())


def _sheet(policy: PolicyProcess, episode: Replay) -> Frame | None:
    """Draw what was seen, what was expected from one step before, and from the first frame on."""
    places = [index for index, action in enumerate(episode.actions) if action is not None][:_STEPS]
    actions = np.stack([_action(episode, place) for place in places])
    seen = [halve(episode.looks[place + 1].frame) for place in places]
    single = []
    for place, action in zip(places, actions, strict=True):
        look = episode.looks[place]
        drawn = policy.imagine(look.frame, look.state, action[None])
        if drawn is None:
            return None
        single.append(_fit(drawn[0]))
    first = episode.looks[places[0]]
    ahead = policy.imagine(first.frame, first.state, _uninterrupted(places, actions))
    run = [] if ahead is None else [_fit(picture) for picture in ahead]
    blank = np.full_like(seen[0], 255)
    return stack([beside(*seen), beside(*single), beside(*run, *[blank] * (len(seen) - len(run)))])


def _action(episode: Replay, place: int) -> NDArray[np.float64]:
    action = episode.actions[place]
    if action is None:
        raise ValueError(f"no action at place {place} of the replay")
    return action


def _uninterrupted(places: Sequence[int], actions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the leading actions between which the gripper rule did not move anything."""
    count = next(
        (index for index, place in enumerate(places) if place != places[0] + index), len(places)
    )
    return actions[:count]


def _fit(picture: Frame) -> Frame:
    """Bring a decoded picture to the size of halved camera frames."""
    size = 128
    rows = np.linspace(0, picture.shape[0] - 1, size).round().astype(int)
    columns = np.linspace(0, picture.shape[1] - 1, size).round().astype(int)
    return np.asarray(picture[rows][:, columns], np.uint8)
