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
from planner_server.planning import Budget, CemPlanner, PlanningProblem


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


def planner_for(arguments: dict[str, Any], noise: Tensor, **options: Any) -> CemPlanner:
    draws: Iterator[Tensor] = iter(noise)
    return CemPlanner(
        candidates=arguments["samples"],
        elites=arguments["topk"],
        iterations=arguments["cem_steps"],
        momentum_mean=arguments["momentum_mean"],
        momentum_std=arguments["momentum_std"],
        momentum_mean_gripper=arguments["momentum_mean_gripper"],
        momentum_std_gripper=arguments["momentum_std_gripper"],
        noise=lambda _generator, _candidates: next(draws),
        **options,
    )


@pytest.mark.parametrize(
    ("noise", "plan", "close_gripper_from"),
    [("noise", "plan", None), ("noise_close", "plan_close_gripper_at_1", 1)],
)
@pytest.mark.parametrize("chunk_size", [64, 7])
def test_the_same_draws_give_the_published_plan(
    world_model: WorldModel,
    index: dict[str, Any],
    reference: dict[str, Tensor],
    noise: str,
    plan: str,
    close_gripper_from: int | None,
    chunk_size: int,
) -> None:
    arguments = index["cem.pt"]["mpc_args"]
    planner = planner_for(
        arguments, reference[noise], close_gripper_from=close_gripper_from, chunk_size=chunk_size
    )
    limit = arguments["maxnorm"]
    problem = PlanningProblem(
        context=reference["context"][0],
        state=reference["pose"][0, 0],
        goal=reference["goal"][0, 0],
        max_step=(limit, limit, limit, 0.0, 0.0, 0.0, 1.0),
        horizon=arguments["rollout"],
    )
    result = planner.plan(world_model, problem, Budget())
    torch.testing.assert_close(
        torch.from_numpy(result.actions).float(), reference[plan], rtol=0, atol=1e-4
    )
    assert result.evaluations == arguments["samples"] * arguments["cem_steps"] + 2


def test_pinned_axes_keep_their_value(
    world_model: WorldModel, reference: dict[str, Tensor]
) -> None:
    problem = PlanningProblem(
        context=reference["context"][0],
        state=reference["pose"][0, 0],
        goal=reference["goal"][0, 0],
        max_step=(0.075,) * 3 + (0.0,) * 3 + (1.0,),
    )
    planner = CemPlanner(candidates=16, elites=4, iterations=2, pinned={2: -0.03})
    result = planner.plan(world_model, problem, Budget())
    assert result.actions[0, 2] == pytest.approx(-0.03)
