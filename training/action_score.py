"""Judge a predictor by planning with it on held-out recordings, while it still trains.

A plan is made once from a recorded frame towards a later one and compared with what the robot really
did in between; nothing moves (arXiv 2512.24497, the offline DROID metric). The loss is no substitute:
it may improve while planning gets worse, see `PlanningWatch`.

Letters in shapes: S segments, C candidates, H actions (the horizon), N tokens per frame, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.episodes import Windows, episode_of
from trajectories.replay.baselines import do_nothing, random_actions
from trajectories.replay.metrics import MotionErrors, action_score, motion_errors, rank_among
from trajectories.replay.statistics import estimate

Array = NDArray[np.float64]

_SHRINK: Final = 0.35  # each round looks at a box this much smaller, around the best so far
Imagine = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes first tokens `[B, N, D]`, states `[B, 7]` and actions `[B, H, 7]`; gives `[B, H, N, D]`."""

_TINY: Final = 1e-12
_ELITES: Final = 4
_WORSE: Final = 0.9


@dataclass(frozen=True)
class SearchSettings:
    """How much planning a judgement takes.

    Attributes:
        candidates: Action sequences in a round, C.
        rounds: Rounds; the first one covers the whole box.
        max_action: Largest magnitude of every axis `[7]` [m, rad, closedness]; 0 is not searched.
        chunk: Sequences that are imagined together.
        seed: Seed of all draws.
    """

    candidates: int
    rounds: int
    max_action: tuple[float, ...]
    chunk: int = 64
    seed: int = 0


@dataclass(frozen=True)
class PlanningScore:
    """How well a predictor plans.

    Attributes:
        score: Published action score: `max(0, 800 * (0.1 - distance_m))`; 80 is perfect.
        distance_m: Mean over segments of the summed error of the net displacement [m].
        distance_low_m: Lower end of its 95 % interval over episodes; None with one episode [m].
        distance_high_m: Upper end [m].
        score_do_nothing: Score of holding still.
        score_random: Score of random actions.
        distance_do_nothing_m: Distance of holding still [m].
        direction_cosine: Mean cosine between planned and true displacement, where both point somewhere.
        closure_error: Mean error of the net change of closedness.
        rank_of_truth: Mean share of random sequences with a lower energy than the recorded one; 0 is
            best, 0.5 is chance.
        energy_ratio: Mean energy at the recorded actions over that of the plan; below 1 the search
            missed better actions, far above 1 the model prefers others.
    """

    score: float
    distance_m: float
    distance_low_m: float | None
    distance_high_m: float | None
    score_do_nothing: float
    score_random: float
    distance_do_nothing_m: float
    direction_cosine: float
    closure_error: float
    rank_of_truth: float
    energy_ratio: float

    def numbers(self) -> dict[str, float]:
        """Return every number that is known, by name, for a log."""
        return {k: float(v) for k, v in self.__dict__.items() if v is not None and v == v}


class PlanningJudge:
    """Plans a fixed set of held-out segments, the same every time.

    Args:
        segments: Windows of horizon + 1 frames, one in each, named after their episodes.
        search: How much planning.
    """

    def __init__(self, segments: Sequence[Windows], search: SearchSettings) -> None:
        self._segments = segments
        self._episodes = [episode_of(segment.names[0]) for segment in segments]
        self._search = search

    def judge(self, imagine: Imagine) -> PlanningScore:
        """Plan every segment and compare with what was recorded."""
        plans, ranks, ratios = [], [], []
        for segment in self._segments:
            problem = _Problem(imagine, segment, self._search)
            plan, energy = problem.search()
            recorded = float(problem.energies(segment.actions)[0])
            plans.append(plan.double().cpu().numpy())
            ranks.append(rank_among(recorded, problem.first_round))
            ratios.append(recorded / max(energy, _TINY))
        return self._summarise(np.stack(plans), float(np.mean(ranks)), float(np.mean(ratios)))

    def _summarise(self, plans: Array, rank: float, ratio: float) -> PlanningScore:
        truth = torch.cat([segment.actions for segment in self._segments]).double().numpy()
        count, horizon = truth.shape[:2]
        still = np.broadcast_to(do_nothing(horizon), truth.shape)
        box = np.array(self._search.max_action)
        drawn = random_actions(count, horizon, box, self._search.seed)
        errors, idle, random = (motion_errors(p, truth) for p in (plans, still, drawn))
        interval = estimate(errors.end_distance_xyz_m, self._episodes)
        return PlanningScore(
            score=action_score(errors.end_distance_xyz_m),
            distance_m=interval.mean,
            distance_low_m=interval.low,
            distance_high_m=interval.high,
            score_do_nothing=action_score(idle.end_distance_xyz_m),
            score_random=action_score(random.end_distance_xyz_m),
            distance_do_nothing_m=float(idle.end_distance_xyz_m.mean()),
            direction_cosine=_mean_cosine(errors),
            closure_error=float(errors.end_distance_closure.mean()),
            rank_of_truth=rank,
            energy_ratio=ratio,
        )


class _Problem:
    """One segment to plan; `first_round` keeps the energies of the sequences that cover the box."""

    def __init__(self, imagine: Imagine, segment: Windows, search: SearchSettings) -> None:
        self._imagine = imagine
        self._segment = segment
        self._search = search
        self._box = torch.tensor(search.max_action)
        self.first_round: Array = np.empty(0)

    def search(self) -> tuple[Tensor, float]:
        """Return the best sequence found, `[H, 7]`, and its energy.

        The first round covers the box evenly and every further one a smaller box around the best few,
        which finds far goals where a Gaussian around zero stalls.
        """
        generator = torch.Generator().manual_seed(self._search.seed)
        horizon = self._segment.actions.shape[1]
        shape = (self._search.candidates, horizon, len(self._box))
        elites = torch.zeros(1, *shape[1:])
        spread, best, lowest = self._box, elites[0], float("inf")
        for number in range(self._search.rounds):
            centres = torch.randint(0, len(elites), shape[:1], generator=generator)
            unit = torch.rand(shape, generator=generator) * 2 - 1
            candidates = (elites[centres] + spread * unit).clamp(-self._box, self._box)
            energies = self.energies(candidates)
            if number == 0:
                self.first_round = energies.double().cpu().numpy()
            order = energies.argsort()
            if float(energies[order[0]]) < lowest:
                best, lowest = candidates[order[0]], float(energies[order[0]])
            elites = candidates[order[:_ELITES]]
            spread = spread * _SHRINK
        return best, lowest

    def energies(self, actions: Tensor) -> Tensor:
        """Return the distance `[C]` between the goal and where actions `[C, H, 7]` lead."""
        found = []
        goal = self._segment.tokens[:, -1].float()
        for chunk in torch.split(actions, self._search.chunk):
            first = self._segment.tokens[:, 0].expand(len(chunk), -1, -1)
            state = self._segment.states[:, 0].expand(len(chunk), -1)
            last = self._imagine(first, state, chunk)[:, -1].cpu().float()
            found.append((last - goal).abs().mean(dim=(1, 2)))
        return torch.cat(found)


def _mean_cosine(errors: MotionErrors) -> float:
    known = errors.direction_cosine[~np.isnan(errors.direction_cosine)]
    return float(known.mean()) if len(known) else float("nan")


class PlanningWatch:
    """Notice early when planning gets worse while the loss improves.

    Args:
        patience: Validations in a row that have to say so.
    """

    def __init__(self, patience: int = 2) -> None:
        self._patience = patience
        self._best_loss = float("inf")
        self._best_distance_m = float("inf")
        self._worse = 0

    def update(self, loss: float, score: PlanningScore) -> str | None:
        """Take the newest validation in; return a warning where one is due.

        Planning counts as worse when the best distance so far lies outside the interval of the newest
        one, or 10 % below it where one episode alone gives no interval.
        """
        loss_improves = loss < self._best_loss
        low = score.distance_low_m
        least = _WORSE * score.distance_m if low is None else low
        is_worse = self._best_distance_m < least
        self._worse = self._worse + 1 if loss_improves and is_worse else 0
        self._best_loss = min(self._best_loss, loss)
        best = self._best_distance_m
        self._best_distance_m = min(best, score.distance_m)
        if self._worse < self._patience:
            return None
        return (
            f"planning gets worse while the loss improves: loss {loss:.4f} is the lowest so far, but "
            f"plans miss by {score.distance_m:.3f} m after {best:.3f} m at best; the checkpoint of the "
            "best action score is kept, consider stopping or a longer rollout in training"
        )
