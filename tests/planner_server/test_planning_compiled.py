"""What is compiled: a fixed set of shapes, whatever is asked for."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor

from models.config import tiny
from models.world_model import WorldModel
from planner_server.planning import (
    Context,
    RolloutEngine,
    RolloutSettings,
    WorldModelDynamics,
    engine_for,
)
from planner_server.planning.batch_memory import BatchMemory
from planner_server.planning.compiled_step import COMPILED_SIZES, CompiledStep
from planner_server.planning.throughput import Work


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """Return the graphs that are compiled from now on; one more than torch allows is an error."""
    found: list[torch.fx.GraphModule] = []
    compile_it = torch.compile

    def backend(graph: torch.fx.GraphModule, _given: list[Tensor]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    def fake(
        function: Callable[..., Any], *, mode: str | None, dynamic: bool
    ) -> Callable[..., Any]:
        return compile_it(function, backend=backend, dynamic=dynamic)

    monkeypatch.setattr("torch.compile", fake)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield found
    torch._dynamo.reset()


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny()).eval().requires_grad_(requires_grad=False)


def context(model: WorldModel, problems: int = 1, frames: int = 1) -> Context:
    tokens = torch.randn(problems, frames * model.tokens_per_frame, model.embed_dim)
    return Context(tokens, torch.rand(problems, frames, 7), torch.rand(problems, frames - 1, 7))


def mean(tokens: Tensor, _poses: Tensor, _problems: slice) -> Tensor:
    return tokens.abs().mean(dim=(-3, -2, -1))


def test_requests_of_many_shapes_compile_no_more_than_the_fixed_set(
    model: WorldModel, graphs: list[torch.fx.GraphModule]
) -> None:
    settings = RolloutSettings(batch_size=800)
    plain = engine_for(model, settings=settings)
    for _ in range(2):  # a second engine finds the graphs of the first
        engine = engine_for(model, compiled=True, settings=settings)
        for frames in (1, 2, 3):
            for horizon in (1, 2, 3):
                for problems in (1, 2):
                    start = context(model, problems, frames)
                    actions = torch.rand(problems, 3, horizon, 7) - 0.5
                    found = engine.evaluate(start, actions, mean)
                    expected = plain.evaluate(start, actions, mean)
                    torch.testing.assert_close(found.energies, expected.energies)
        for candidates in (1, 16, 17, 60, 100, 200, 300, 600, 801):
            actions = torch.rand(1, candidates, 1, 7)
            engine.evaluate(context(model), actions, mean)
            engine.dynamics.rollout(context(model), actions)  # not in inference mode
            engine.dynamics.rollout(context(model), actions.expand(2, -1, -1, -1)[:1])
        assert len(graphs) == len(COMPILED_SIZES)


def test_what_is_compiled_at_the_start_is_all_that_requests_need(
    model: WorldModel, graphs: list[torch.fx.GraphModule]
) -> None:
    engine = engine_for(model, compiled=True, settings=RolloutSettings(batch_size=200))
    dynamics = engine.dynamics
    assert isinstance(dynamics, WorldModelDynamics)
    dynamics.compile_steps(engine.batch_size(Work(horizon=1), torch.device("cpu")))
    assert len(graphs) == sum(size <= 200 for size in COMPILED_SIZES)
    for candidates in (1, 33, 100, 128):
        engine.evaluate(context(model), torch.rand(1, candidates, 1, 7), mean)
    assert len(graphs) == sum(size <= 200 for size in COMPILED_SIZES)


def test_a_compiled_step_is_what_the_model_imagines(
    model: WorldModel, graphs: list[torch.fx.GraphModule]
) -> None:
    start, actions = context(model), torch.rand(1, 21, 1, 7) - 0.5
    tokens, poses = engine_for(model, compiled=True).dynamics.rollout(start, actions)
    expected, states = engine_for(model).dynamics.rollout(start, actions)
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(poses, states)
    assert len(graphs) == 1
    assert not tokens.is_inference(), "whoever asks outside of inference mode may go on computing"


def test_batches_are_cut_and_their_memory_is_known_by_what_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class World:
        max_frames = 8

        def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
            poses = context.states[:, None, None, -1] + actions.cumsum(dim=2)
            return poses[..., None, :], poses

    computed: list[int] = []

    def fitted(_self: Any, _work: Work, _device: Any, rollouts: int, _before: Any) -> None:
        computed.append(rollouts)

    monkeypatch.setattr(BatchMemory, "fitted", fitted)
    fill = CompiledStep.size
    engine = RolloutEngine(
        World(),
        RolloutSettings(batch_size=600),
        computed=lambda work, problems, candidates: fill(work, problems, candidates) or candidates,
    )
    start = Context(torch.zeros(1, 1, 7), torch.zeros(1, 1, 7), torch.zeros(1, 0, 7))
    engine.evaluate(start, torch.zeros(1, 620, 1, 7), mean)
    assert computed == [512, 128], "800 would be more than allowed"
    computed.clear()
    engine.evaluate(start, torch.zeros(1, 620, 2, 7), mean)
    assert computed == [600, 20]
