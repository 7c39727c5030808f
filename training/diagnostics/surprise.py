"""Surprise on spliced videos: does the world model notice what cannot have happened?

In a splice the arm goes on as it was recorded, and the camera shows something else:

    jump      another moment of the same run, with the hand elsewhere
    freeze    the same picture again, though the arm has moved
    stranger  a frame of another run

Every step of every run gets a score; an area under the ROC curve says how well the scores tell the spliced
steps from the recorded ones. A detector without a model can only look at how much the picture changes.

Letters in shapes: S steps, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.world_model import WorldModel
from training.diagnostics.future import cut_windows, imagine
from training.diagnostics.measures import Ranked, ranked, ranked_difference
from training.diagnostics.runs import Run, Seen

Array = NDArray[np.float64]
Kind = Literal["jump", "freeze", "stranger"]

MODEL: Final = "world model"
_Choice = TypeVar("_Choice")
_PER_RUN: Final = 6
_SEED: Final = 7
_ELSEWHERE_M: Final = 0.05
_MOVED_M: Final = 0.03


@dataclass(frozen=True)
class Splice:
    """A step on which the camera shows another frame than was recorded.

    Attributes:
        kind: What it shows.
        run: The run that goes on.
        row: The row before the splice.
        shown: Run and row of the frame that is shown after it.
    """

    kind: Kind
    run: int
    row: int
    shown: tuple[int, int]


@dataclass(frozen=True)
class Detection:
    """How well one detector finds one kind of splice.

    Attributes:
        kind: What the camera shows; see the module.
        detector: `world model`, or an eye whose change is taken for surprise.
        area: Area under the ROC curve; 0.5 is chance.
        lead: 95 % interval of the world model's area minus this detector's; None for itself.
    """

    kind: Kind
    detector: str
    area: Ranked
    lead: tuple[float | None, float | None] | None = None


@dataclass(frozen=True)
class Curve:
    """The scores along one spliced run, in units of their mean over recorded steps.

    Attributes:
        splice: What was done to it; the camera shows the other frame once.
        scores: For every detector `[T - 1]`.
        frames: uint8 RGB `[T, H, W, 3]` as the camera showed them.
    """

    splice: Splice
    scores: Mapping[str, Array]
    frames: Tensor


class SurpriseTest:
    """Spliced and recorded steps of some runs, scored by a world model and by eyes.

    Args:
        model: The world model; None: only changes are measured.
        views: For every eye what it saw of the same runs; the world model's comes first.
    """

    def __init__(self, model: WorldModel | None, views: Mapping[str, Seen]) -> None:
        self._first = next(iter(views.values()))
        self._runs = self._first.runs
        self._views = views
        self._expected: Sequence[Tensor] | None = None
        if model is not None:
            self._expected = _expectations(model, self._first)
        self.splices = draw_splices(self._runs)

    def detectors(self) -> list[str]:
        """Return who scores steps."""
        return [*([] if self._expected is None else [MODEL]), *self._views]

    def detections(self) -> list[Detection]:
        """Return how well every detector finds every kind of splice."""
        found = []
        recorded = [
            (run, row) for run, one in enumerate(self._runs) for row in range(len(one.states) - 1)
        ]
        names = [self._runs[run].name for run, _ in recorded]
        normal = {
            name: np.array([self._score(name, run, row, (run, row + 1)) for run, row in recorded])
            for name in self.detectors()
        }
        for kind in get_args(Kind):
            splices = [splice for splice in self.splices if splice.kind == kind]
            if not splices:
                continue
            owners = [self._runs[splice.run].name for splice in splices]
            odd = {
                name: np.array([self._score(name, s.run, s.row, s.shown) for s in splices])
                for name in self.detectors()
            }
            for name in self.detectors():
                lead = None
                if self._expected is not None and name != MODEL:
                    pair = [(odd[one], normal[one]) for one in (MODEL, name)]
                    lead = ranked_difference(pair, owners, names)
                area = ranked(odd[name], owners, normal[name], names)
                found.append(Detection(kind, name, area, lead))
        return found

    def curve(self, kind: Kind = "jump") -> Curve | None:
        """Return the scores along the first run with such a splice, for a picture."""
        splice = next((one for one in self.splices if one.kind == kind), None)
        if splice is None:
            return None
        run = self._runs[splice.run]
        shown = [(splice.run, row) for row in range(len(run.states))]
        shown[splice.row + 1] = splice.shown
        scores = {}
        for name in self.detectors():
            recorded = [
                self._score(name, splice.run, row, (splice.run, row + 1))
                for row in range(len(run.states) - 1)
            ]
            # The step after the splice is left as recorded: one picture is wrong, not two.
            values = np.array(recorded)
            values[splice.row] = self._score(name, splice.run, splice.row, splice.shown)
            scores[name] = values / max(1e-12, float(np.mean(recorded)))
        frames = torch.stack([self._runs[owner].frames[row] for owner, row in shown])
        return Curve(splice, scores, frames)

    def _score(self, detector: str, run: int, row: int, shown: tuple[int, int]) -> float:
        """Return the surprise of one step of a run when the camera shows a frame after it."""
        view, expected = self._first, self._expected
        if detector != MODEL or expected is None:
            view = self._views[detector]
            expected = view.tokens
        seen = view.tokens[shown[0]][shown[1]]
        return float((expected[run][row] - seen).abs().mean())


def draw_splices(runs: Sequence[Run]) -> list[Splice]:
    """Draw up to six splices of every kind in every run."""
    rng = np.random.default_rng(_SEED)
    splices: list[Splice] = []
    for number, run in enumerate(runs):
        positions = run.positions_m
        steps = np.arange(len(positions) - 1)
        apart = np.linalg.norm(positions[steps + 1, None] - positions[None], axis=2)  # [S, T]
        moved = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        jumps = [
            (row, rng.permutation(np.flatnonzero(apart[row] >= _ELSEWHERE_M))) for row in steps
        ]
        jumps = [(row, places) for row, places in jumps if len(places)]
        splices += [
            Splice("jump", number, int(row), (number, int(places[0])))
            for row, places in _some(jumps, rng)
        ]
        frozen = _some(np.flatnonzero(moved >= _MOVED_M).tolist(), rng)
        splices += [Splice("freeze", number, row, (number, row)) for row in frozen]
        for row in _some(steps.tolist(), rng) if len(runs) > 1 else []:
            other = int((number + 1 + rng.integers(len(runs) - 1)) % len(runs))
            place = int(rng.integers(len(runs[other].states)))
            splices.append(Splice("stranger", number, int(row), (other, place)))
    return splices


def _some(choices: Sequence[_Choice], rng: np.random.Generator) -> list[_Choice]:
    """Draw at most six of some choices, none twice."""
    picked = rng.permutation(len(choices))[:_PER_RUN]
    return [choices[place] for place in sorted(picked)]


def _expectations(model: WorldModel, seen: Seen) -> list[Tensor]:
    """Return for every run what the model expects after each of its rows, `[T - 1, N, D]`."""
    windows = cut_windows(seen, 1)
    expected = imagine(model, windows.now, windows.states, windows.actions)[:, 0]
    return list(torch.split(expected, [len(run.states) - 1 for run in seen.runs]))
