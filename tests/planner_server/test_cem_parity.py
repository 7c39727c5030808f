"""The published planner on published-layout weights: the same draws give the same plan."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoint import load_world_model
from models.config import ACPredictorConfig, EncoderConfig, WorldModelConfig
from models.world_model import WorldModel
from planner_server.planning import (
    ActionBounds,
    CemPlanner,
    CemSettings,
    Goal,
    PlanningProblem,
    RolloutEngine,
    RolloutSettings,
    WorldModelDynamics,
)


@pytest.fixture(scope="module")
def index(shared_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shared_dir / "golden" / "index.json").read_text())
    return dict(content["files"])


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> dict[str, Tensor]:
    vectors: dict[str, Tensor] = torch.load(shared_dir / "golden" / "cem.pt", weights_only=True)
    return vectors


@pytest.fixture(scope="module")
def world_model(shared_dir: Path, index: dict[str, Any]) -> WorldModel:
    shapes = index["ac_checkpoint.pt"]
    encoder = {k: v for k, v in shapes["encoder"].items() if k in EncoderConfig.model_fields}
    predictor = {
        k: v for k, v in shapes["predictor"].items() if k in ACPredictorConfig.model_fields
    }
    config = WorldModelConfig(
        name="golden",
        encoder=EncoderConfig(**encoder),
        predictor=ACPredictorConfig(**predictor, grid_size=(4, 4)),
        control_period_s=1.0,
        max_step_m=0.075,
    )
    return load_world_model(shared_dir / "golden" / "ac_checkpoint.pt", config=config)


def planner_for(
    world_model: WorldModel,
    arguments: dict[str, Any],
    noise: Tensor,
    close_gripper_from: int | None = None,
    batch_size: int = 64,
) -> CemPlanner:
    draws: Iterator[Tensor] = iter(noise)
    settings = CemSettings(
        candidates=arguments["samples"],
        elites=arguments["topk"],
        iterations=arguments["cem_steps"],
        momentum_mean=arguments["momentum_mean"],
        momentum_std=arguments["momentum_std"],
        momentum_mean_gripper=arguments["momentum_mean_gripper"],
        momentum_std_gripper=arguments["momentum_std_gripper"],
        close_gripper_from=close_gripper_from,
    )
    engine = RolloutEngine(WorldModelDynamics(world_model), RolloutSettings(batch_size=batch_size))
    return CemPlanner(engine, settings, noise=lambda _candidates, _axes: next(draws)[None])


def problem_for(
    reference: dict[str, Tensor], bounds: ActionBounds, horizon: int
) -> PlanningProblem:
    return PlanningProblem(
        context_tokens=reference["context"][0, 0],
        context_states=reference["pose"][0],
        goal=Goal.of(reference["goal"][0, 0]),
        bounds=bounds,
        horizon=horizon,
    )


@pytest.mark.parametrize(
    ("noise", "plan", "close_gripper_from"),
    [("noise", "plan", None), ("noise_close", "plan_close_gripper_at_1", 1)],
)
@pytest.mark.parametrize("batch_size", [64, 7])
def test_the_same_draws_give_the_published_plan(
    world_model: WorldModel,
    index: dict[str, Any],
    reference: dict[str, Tensor],
    noise: str,
    plan: str,
    close_gripper_from: int | None,
    batch_size: int,
) -> None:
    arguments = index["cem.pt"]["mpc_args"]
    planner = planner_for(world_model, arguments, reference[noise], close_gripper_from, batch_size)
    limit = arguments["maxnorm"]
    bounds = ActionBounds.symmetric((limit, limit, limit, 0.0, 0.0, 0.0, 1.0))
    (result,) = planner.plan([problem_for(reference, bounds, arguments["rollout"])])
    torch.testing.assert_close(
        torch.from_numpy(result.actions).float(), reference[plan], rtol=0, atol=1e-4
    )
    assert result.evaluations == arguments["samples"] * arguments["cem_steps"] + 2


def test_fixed_axes_keep_their_value(world_model: WorldModel, reference: dict[str, Tensor]) -> None:
    low = (-0.075, -0.075, -0.03, 0.0, 0.0, 0.0, -1.0)
    high = (0.075, 0.075, -0.03, 0.0, 0.0, 0.0, 1.0)
    settings = CemSettings(candidates=16, elites=4, iterations=2)
    planner = CemPlanner(RolloutEngine(WorldModelDynamics(world_model)), settings)
    (result,) = planner.plan([problem_for(reference, ActionBounds(low, high), 1)])
    assert result.actions[0, 2] == -0.03
