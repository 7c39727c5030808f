"""Planners whose answers are known, and their replays."""

import numpy as np
import pytest

from trajectories.replay.engine import Replay
from trajectories.replay.judge import Answer, Energies
from trajectories.replay.questions import spans
from trajectories.replay.results import PlannerCard, Settings

BOX = (0.15, 0.15, 0.15, 0.5, 0.5, 0.5, 1.0)


def card(horizon=2, label="known"):
    return PlannerCard(
        label=label,
        model="model",
        planner="planner",
        via="test",
        control_period_s=0.2,
        horizon=horizon,
        max_step=BOX,
    )


def settings(**changes):
    values = dict(
        goal_steps=2, every=1, draws=None, seed=0, view="left", clock="real", candidates=20
    )
    return Settings(**(values | changes))


class KnownPlanner:
    """Answers with the recorded motion plus an offset; its energy is the distance from the recorded first step."""

    def __init__(self, offset_m=0.0, horizon=2, knows_energies=True, label="known"):
        self.card = card(horizon, label)
        self.offset_m = offset_m
        self.knows_energies = knows_energies
        self.truth = {}
        self.asked = 0

    def plan(self, questions):
        for question in questions:
            self.truth[question.state.tobytes()] = question.recorded
            actions = question.recorded.copy()
            actions[0, 0] += self.offset_m
            yield (
                question,
                Answer(actions, 1.0, self.offset_m, 0.7, 5, 1.0, 9.0, 0.5, 12.0, 0.2, ("slow",)),
            )

    def energies(self, frame, state, goal, actions):
        self.asked += 1
        if not self.knows_energies:
            return None
        recorded = self.truth[state.tobytes()]
        return Energies(1.0, np.linalg.norm(actions[:, 0, :3] - recorded[0, :3], axis=-1))


def run(planner, *episodes, landscapes=0, **changes):
    replay_settings = settings(**changes)
    replay = Replay(planner, replay_settings, landscapes)
    for episode in episodes:
        asked = spans(len(episode), planner.card.horizon, replay_settings.goal_steps)
        replay.add(episode, "left", asked)
    return replay


@pytest.fixture
def known_planner():
    """Makes planners whose plans are off by `offset_m` along x."""
    return KnownPlanner


@pytest.fixture
def replayed():
    """Replays whole episodes with a planner."""
    return run


@pytest.fixture
def replay_settings():
    """Makes settings."""
    return settings
