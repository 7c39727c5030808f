"""The published architecture with random weights: time only, because random weights have no energy to speak of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.planning import speed
from benchmarks.planning.comparison import Contender, contenders
from benchmarks.planning.progress import say
from models.ac_predictor import ACPredictor
from models.config import vjepa2_ac_vit_giant
from models.packed import can_pack, packed_rollout
from models.rollout import ACRollout
from models.world_model import WorldModel
from planner_server.planning import (
    ActionBounds,
    Goal,
    PlanningProblem,
    RolloutEngine,
    WorldModelDynamics,
    planners,
)

HORIZONS = (1, 2, 3, 6)

_CPU_CANDIDATES = 4
_CPU_HORIZONS = (1, 6)
_CUDA_CANDIDATES = 64
_CUDA_SIZES = (16, 64, 128, 800)
_ROBOTS = 16
_FEW_EVALUATIONS = 16


@dataclass(frozen=True)
class PlanTime:
    """Time of one plan.

    Attributes:
        name: The planner.
        evaluations: Action sequences imagined.
        milliseconds: Time without encoding [ms].
        is_measured: Whether it was run, or computed from the time per rollout, without what the planner itself takes.
    """

    name: str
    evaluations: int
    milliseconds: float
    is_measured: bool


@dataclass(frozen=True)
class Published:
    """What the published architecture costs here.

    Attributes:
        gflop: Arithmetic of one candidate [GFLOP], counted on the network itself: by horizon, with the cache and
            from scratch.
        over_horizon: Time with the cache by horizon, on CUDA also from scratch.
        plans: Time per plan.
        encode_ms: Time to encode a frame; None where it was not run.
        batches: One step of batches in every precision.
        together: Many robots at once; None where it was not run.
    """

    gflop: dict[int, dict[str, float]]
    over_horizon: tuple[speed.Cost, ...]
    plans: tuple[PlanTime, ...]
    encode_ms: float | None
    batches: tuple[speed.Cost, ...]
    together: speed.Together | None


def measure(evaluations: dict[str, int]) -> Published:
    """Measure on CUDA; on a CPU time a few rollouts and compute the rest.

    Args:
        evaluations: What the contenders need, for what is computed.
    """
    return _on_cuda() if torch.cuda.is_available() else _on_cpu(evaluations)


def _gflop() -> dict[int, dict[str, float]]:
    config = vjepa2_ac_vit_giant().predictor
    return {horizon: speed.arithmetic(config, horizon) for horizon in HORIZONS}


@torch.inference_mode()
def _on_cpu(evaluations: dict[str, int]) -> Published:
    predictor = _random_predictor()
    rollout = packed_rollout(predictor) if can_pack(predictor) else ACRollout(predictor)
    context = speed.context_for(predictor, 1)
    memory = rollout.remember(context.tokens, context.states, context.actions)
    imagine = partial(rollout.imagine, memory)
    actions = speed.some_actions(_CPU_CANDIDATES, 1, context.tokens.device)
    imagine(actions[:, :1])
    begun_s = time.perf_counter()
    imagine(actions)
    cost_ms = 1e3 * (time.perf_counter() - begun_s)
    cost = speed.Cost("bfloat16", 1, _CPU_CANDIDATES, cost_ms)
    plans = [
        PlanTime(who.name, count, count * cost.per_rollout_ms, is_measured=False)
        for who in _in_bfloat16()
        # What a rollout costs says nothing about one that also goes backwards.
        if who.planner != "gradient" and (count := evaluations.get(who.name)) is not None
    ]
    ways: speed.Ways = {speed.CACHED: imagine}
    over_horizon = speed.over_horizon(ways, _CPU_HORIZONS, 1, context.tokens.device)
    return Published(
        gflop=_gflop(),
        over_horizon=tuple(over_horizon),
        plans=tuple(plans),
        encode_ms=None,
        batches=(cost,),
        together=None,
    )


def _random_predictor() -> ACPredictor:
    """Build the published predictor in bfloat16, its weights drawn in a fraction of the usual time."""
    with torch.device("meta"):
        predictor = ACPredictor(vjepa2_ac_vit_giant().predictor)
    predictor = (
        predictor.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(requires_grad=False)
    )
    for weight in predictor.parameters():
        weight.uniform_(-0.03, 0.03)
    return predictor


def _on_cuda() -> Published:
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = WorldModel(vjepa2_ac_vit_giant()).eval().requires_grad_(requires_grad=False)
    dynamics = WorldModelDynamics(model, "bfloat16", compiled=True)
    engine = RolloutEngine(dynamics)
    problem = _random_problem(model, 0)
    plans = []
    for contender in _in_bfloat16():
        settings = planners.settings(contender.planner, **contender.options)
        planner = planners.make(contender.planner, engine, settings)
        count = planner.plan([problem])[0].evaluations
        milliseconds = speed.milliseconds(partial(planner.plan, [problem]))
        plans.append(PlanTime(contender.name, count, milliseconds, is_measured=True))
        say(f"{contender.name}: {milliseconds:.0f} ms")
    robots = [_random_problem(model, seed) for seed in range(_ROBOTS)]
    side_by_side = speed.together(planners.make(planners.default, engine), robots, _FEW_EVALUATIONS)
    frame = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    encode_ms = speed.milliseconds(partial(_encode, model, frame))
    batches = tuple(speed.over_batches(model, _CUDA_SIZES))
    context, plain = speed.some_context(model, 1), WorldModelDynamics(model, "bfloat16")
    half = speed.in_bfloat16(model.predictor)
    ways: speed.Ways = {
        speed.CACHED: partial(plain.rollout, context),
        speed.FROM_SCRATCH: partial(speed.from_scratch, half, context),
    }
    over_horizon = speed.over_horizon(ways, HORIZONS, _CUDA_CANDIDATES, context.tokens.device)
    return Published(
        gflop=_gflop(),
        over_horizon=tuple(over_horizon),
        plans=tuple(plans),
        encode_ms=encode_ms,
        batches=batches,
        together=side_by_side,
    )


def _in_bfloat16() -> list[Contender]:
    """Return who searches with what is timed here."""
    return [contender for contender in contenders() if contender.precision == "bfloat16"]


def _encode(model: WorldModel, frame: torch.Tensor) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        model.encode(frame)


def _random_problem(model: WorldModel, seed: int) -> PlanningProblem:
    context = speed.some_context(model, 2)
    return PlanningProblem(
        context_tokens=context.tokens[0],
        context_states=context.states[0],
        goal=Goal.of(context.tokens[1]),
        bounds=ActionBounds.symmetric(model.config.max_action),
        seed=seed,
    )
