"""What a search holds of the model's predictions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from planner_server.planning import (
    ActionBounds,
    Budget,
    Context,
    EnergySpec,
    Goal,
    PlanningProblem,
    RolloutEngine,
    planners,
)

TOKENS, CHANNELS, HORIZON = 4, 64, 8
FITTED_VALUES = 40  # ten channels of every token, where one step counts


class WideWorld:
    """Predicts tokens of many channels, each another function of the pose."""

    max_frames = HORIZON

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        poses = context.states[:, None, None, -1] + actions.cumsum(dim=2)
        return wide(poses), poses


def wide(poses: Tensor) -> Tensor:
    """Return tokens `[..., N, D]` of poses `[..., 7]`."""
    frequencies = torch.linspace(1, 6, TOKENS * CHANNELS).view(TOKENS, CHANNELS)
    return torch.sin(frequencies * poses.sum(dim=-1)[..., None, None] + frequencies)


@pytest.mark.parametrize(("over", "steps", "channels"), [("last", 1, 10), ("all", HORIZON, 4)])
def test_the_surrogate_holds_only_the_steps_and_channels_that_it_fits(
    over: Any, steps: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Tensor] = []
    evaluate = RolloutEngine.evaluate

    def spy(*args: Any, **options: Any) -> Any:
        found = evaluate(*args, **options)
        kept.extend([] if found.tokens is None else [found.tokens])
        return found

    monkeypatch.setattr(RolloutEngine, "evaluate", spy)
    problem = PlanningProblem(
        wide(torch.zeros(7)),
        torch.zeros(1, 7),
        Goal.of(wide(torch.full((7,), 0.1))),
        ActionBounds.symmetric((0.1, 0.1, 0.1, 0.0, 0.0, 0.0, 1.0)),
        horizon=HORIZON,
        energy=EnergySpec(over=over),
    )
    settings = planners.settings("surrogate", fitted_values=FITTED_VALUES)
    planner = planners.make("surrogate", RolloutEngine(WideWorld()), settings)
    (plan,) = planner.plan([problem], Budget(max_evaluations=300))
    assert plan.energy < plan.energy_do_nothing
    for tokens in kept:
        assert tokens.shape[2:] == (steps, TOKENS, channels)
        assert tokens.untyped_storage().nbytes() == tokens.nbytes, "a view holds all that it shows"
    assert sum(tokens.shape[1] for tokens in kept) == 300
