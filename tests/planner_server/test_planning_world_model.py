"""The world model as planners use it: its precisions, its gradient, its memory of contexts."""

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.config import tiny
from models.world_model import WorldModel
from planner_server.planning.dynamics import Context
from planner_server.planning.errors import PlanningError
from planner_server.planning.rollouts import (
    RolloutEngine,
    RolloutSettings,
)
from planner_server.planning.throughput import Work
from planner_server.planning.world_model_dynamics import WorldModelDynamics, engine_for

STEP = Work(horizon=1)


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny()).eval().requires_grad_(requires_grad=False)


def real_context(model: WorldModel, problems: int) -> Context:
    frames = torch.randint(0, 256, (problems, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        tokens = model.encode(frames)
    return Context(tokens, torch.rand(problems, 1, 7), torch.zeros(problems, 0, 7))


def test_the_world_model_imagines_what_it_does_without_the_engine(model: WorldModel) -> None:
    start, actions = real_context(model, 2), torch.rand(2, 3, 2, 7) - 0.5
    tokens, poses = WorldModelDynamics(model).rollout(start, actions)
    for problem in range(2):
        given = start.tokens[problem].expand(3, -1, -1), start.states[problem].expand(3, -1)
        expected, states = model.rollout(*given, actions[problem])
        torch.testing.assert_close(tokens[problem], expected)
        torch.testing.assert_close(poses[problem], states)


def test_bfloat16_is_near_single_precision_and_leaves_the_model_alone(model: WorldModel) -> None:
    start, actions = real_context(model, 1), torch.rand(1, 4, 2, 7) - 0.5
    exact, _ = WorldModelDynamics(model).rollout(start, actions)
    with torch.inference_mode():
        rough, _ = WorldModelDynamics(model, "bfloat16").rollout(start, actions)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() < 0.05
    assert model.predictor.predictor_proj.weight.dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_pass_through_the_world_model(model: WorldModel, precision: str) -> None:
    dynamics, start = WorldModelDynamics(model, precision), real_context(model, 1)  # type: ignore[arg-type]
    dynamics.rollout(start, torch.rand(1, 2, 2, 7))
    actions = torch.zeros(1, 2, 2, 7, requires_grad=True)
    tokens, _ = dynamics.rollout(start, actions)
    (gradient,) = torch.autograd.grad(tokens[..., 0].sum(), actions)
    assert bool(torch.isfinite(gradient).all())
    assert bool((gradient != 0).any())


def test_what_was_computed_of_a_context_goes_with_it(model: WorldModel) -> None:
    dynamics, start = WorldModelDynamics(model), real_context(model, 1)
    dynamics.rollout(start, torch.zeros(1, 1, 1, 7))
    kept = weakref.ref(dynamics._fast.memory(start))
    assert dynamics._fast.memory(start) is kept()
    del start
    gc.collect()
    assert kept() is None


def test_precisions_that_cannot_be_had_are_refused(model: WorldModel) -> None:
    with pytest.raises(PlanningError, match="known: float32, bfloat16, float8"):
        WorldModelDynamics(model, "int3")  # type: ignore[arg-type]
    with pytest.raises(PlanningError, match=r"compute capability 8\.9, and the model is on cpu"):
        WorldModelDynamics(model, "float8")


def test_an_engine_is_made_for_a_model_and_a_precision(model: WorldModel) -> None:
    start, actions = real_context(model, 1), torch.rand(1, 4, 2, 7) - 0.5
    engine = engine_for(model, "bfloat16", settings=RolloutSettings(batch_size=3))
    assert engine.batch_size(Work(2), actions.device) == 3
    assert engine.max_frames == model.config.predictor.max_frames
    poses = engine.evaluate(start, actions, lambda t, p, _: t.mean(dim=(-3, -2, -1))).poses
    torch.testing.assert_close(poses, WorldModelDynamics(model).rollout(start, actions)[1])
    with pytest.raises(PlanningError, match="float8"):
        engine_for(model, "float8")


def test_a_gradient_and_exact_energies_come_from_the_predictor_before_it_was_quantised(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantised(predictor: ACPredictor) -> ACPredictor:
        """Halve the output and cut off the gradient, as products in 8 bits do."""
        found = copy.deepcopy(predictor)
        found.predictor_proj.register_forward_hook(lambda _module, _given, y: y.detach() / 2)
        return found

    monkeypatch.setattr("planner_server.planning.world_model_dynamics._quantised", quantised)
    engine, start = engine_for(model, "float8"), real_context(model, 1)
    rough = WorldModelDynamics(model, "bfloat16")
    actions = torch.zeros(1, 2, 2, 7, requires_grad=True)

    def score(tokens: Tensor, _poses: Tensor, _problems: slice) -> Tensor:
        return tokens[..., 0].sum(dim=(-2, -1))

    found, expected = (
        torch.autograd.grad(each.evaluate(start, actions, score).energies.sum(), actions)[0]
        for each in (engine, RolloutEngine(rough))
    )
    assert bool((found != 0).any())
    torch.testing.assert_close(found, expected)
    actions = actions.detach()
    expected = RolloutEngine(rough).evaluate(start, actions, score).energies
    exact = engine.evaluate(start, actions, score, exact=True).energies
    torch.testing.assert_close(exact, expected, rtol=0, atol=0)
    assert not torch.allclose(engine.evaluate(start, actions, score).energies, expected)


@pytest.mark.slow
def test_a_compiled_model_imagines_the_same(model: WorldModel) -> None:
    start, actions = real_context(model, 1), torch.rand(1, 3, 1, 7) - 0.5
    compiled = WorldModelDynamics(model, compiled=True)
    expected, states = WorldModelDynamics(model).rollout(start, actions)
    with torch.inference_mode():
        tokens, poses = compiled.rollout(start, actions)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(poses, states, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_imagines_what_the_cpu_does(model: WorldModel, compiled: bool) -> None:
    problems, horizon = (1, 1) if compiled else (3, 2)  # which is all that is compiled
    start, actions = real_context(model, problems), torch.rand(problems, 20, horizon, 7) - 0.5
    expected, _ = WorldModelDynamics(model).rollout(start, actions)
    moved = Context(start.tokens.cuda(), start.states.cuda(), start.actions.cuda())
    dynamics = WorldModelDynamics(model.cuda(), compiled=compiled)
    for _ in range(3):  # the second and third time a graph is recorded and replayed
        with torch.inference_mode():
            tokens, _ = dynamics.rollout(moved, actions.cuda())
        torch.testing.assert_close(tokens.cpu(), expected, atol=1e-3, rtol=0)


@pytest.mark.gpu
def test_cuda_batches_mix_problems_and_grow_with_the_free_memory(model: WorldModel) -> None:
    start = real_context(model, 3)
    moved = Context(start.tokens.cuda(), start.states.cuda(), start.actions.cuda())
    engine = RolloutEngine(WorldModelDynamics(model.cuda()))
    actions = torch.rand(3, 50, 1, 7, device="cuda") - 0.5

    def score(tokens: Tensor, poses: Tensor, problems: slice) -> Tensor:
        return tokens.abs().mean(dim=(-3, -2, -1))

    first = engine.evaluate(moved, actions, score)
    assert engine.batch_size(STEP, actions.device) > 16
    torch.testing.assert_close(engine.evaluate(moved, actions, score).energies, first.energies)
