"""Memory: what a search holds of the model's predictions, and how large batches are where memory ends."""

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
from planner_server.planning.batch_memory import CPU_BATCH

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


class SmallWorld:
    """Has memory for so many frames of so many rollouts."""

    max_frames = 32

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.calls: list[int] = []

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        problems, candidates, horizon = actions.shape[:3]
        needed = problems * candidates * horizon * context.frames
        if needed * (3 if actions.requires_grad else 1) > self.memory:
            raise torch.OutOfMemoryError(f"{needed}")
        self.calls.append(candidates)
        poses = context.states[:, -1, None, None] + actions.cumsum(dim=2)
        return poses[..., None, :], poses


def imagine(engine: RolloutEngine, candidates: int, horizon: int = 1, frames: int = 1) -> Tensor:
    tokens, states = torch.zeros(1, frames, 7), torch.zeros(1, frames, 7)
    context = Context(tokens, states, torch.zeros(1, frames - 1, 7))
    actions = torch.rand(1, candidates, horizon, 7)
    return engine.evaluate(context, actions, lambda t, p, _: t.sum(dim=(-3, -2, -1))).energies


def test_what_did_not_fit_makes_only_its_own_kind_of_batch_smaller() -> None:
    world = SmallWorld(memory=64)
    engine = RolloutEngine(world)
    imagine(engine, 32, horizon=16)
    imagine(engine, 32, frames=8)
    assert set(world.calls) == {4, 8}
    world.calls.clear()
    imagine(engine, 64)
    assert world.calls == [CPU_BATCH] * 2
    world.calls.clear()
    imagine(engine, 8, horizon=16)
    imagine(engine, 16, frames=8)
    assert world.calls == [4, 4, 8, 8], "what was learned is kept"


def test_gradients_that_do_not_fit_make_no_other_batch_smaller() -> None:
    world = SmallWorld(memory=CPU_BATCH)
    engine = RolloutEngine(world)
    actions = torch.rand(1, CPU_BATCH, 1, 7, requires_grad=True)
    context = Context(torch.zeros(1, 1, 7), torch.zeros(1, 1, 7), torch.zeros(1, 0, 7))
    engine.evaluate(context, actions, lambda t, p, _: t.sum(dim=(-3, -2, -1)))
    assert set(world.calls) == {8}
    world.calls.clear()
    imagine(engine, CPU_BATCH)
    assert world.calls == [CPU_BATCH]


def test_after_a_moment_without_memory_the_batches_grow_again() -> None:
    world = SmallWorld(memory=0)
    engine = RolloutEngine(world)
    with pytest.raises(torch.OutOfMemoryError):
        imagine(engine, CPU_BATCH)
    world.memory = 1e9
    imagine(engine, CPU_BATCH)
    assert max(world.calls) <= 2
    imagine(engine, 1000)
    assert max(world.calls) == CPU_BATCH


def test_a_memory_that_stays_small_is_tried_more_and_more_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, warnings = RolloutEngine(SmallWorld(memory=9)), []
    for _ in range(8):
        caplog.clear()
        imagine(engine, 8 * 64)
        warnings.append(len(caplog.records))
    assert warnings[0] > 0
    assert sum(warnings[4:]) <= 2
