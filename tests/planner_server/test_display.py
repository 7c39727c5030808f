"""What people are shown of a plan."""

import numpy as np
import pytest
import torch

from planner_server.display import display_of
from planner_server.planning import Candidates, Plan, StopReason


def plan_with(energies: np.ndarray) -> Plan:
    actions = np.zeros((len(energies), 1, 7), np.float32)
    actions[:, 0, 0] = energies
    zeros = np.zeros((1, 7))
    return Plan(
        actions=zeros,
        predicted_states=zeros,
        energy=0.1,
        energy_now=0.2,
        energy_do_nothing=0.2,
        energy_per_iteration=(0.1,),
        evaluations=len(energies),
        stop_reason=StopReason.COMPLETED,
        candidates=(Candidates(actions, energies.astype(np.float32)),),
    )


@pytest.mark.parametrize("count", [1, 32, 63, 64, 65, 79, 95, 96, 97, 800])
def test_at_most_64_candidates_are_shown_the_best_of_them_first(count: int) -> None:
    energies = np.random.default_rng(count).random(count)
    energies[0] = np.nan
    frame, tokens = np.zeros((64, 64, 3), np.uint8), torch.zeros(4, 2)
    (cloud,) = display_of(plan_with(energies), frame, tokens, tokens + 1, (2, 2)).iterations
    assert min(count - 1, 32) <= len(cloud.energies) <= 64
    assert cloud.energies == sorted(cloud.energies)
    best = np.sort(energies[1:])[:32]
    np.testing.assert_allclose(cloud.energies[: len(best)], best, rtol=1e-6)
    np.testing.assert_allclose([action[0] for action in cloud.actions], cloud.energies)
