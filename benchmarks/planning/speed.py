"""What imagining costs: over the horizon, over the batch, in every precision, and for many robots at once."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import reference_path
from models.ac_predictor import ACPredictor
from models.config import ACPredictorConfig
from models.rollout import ACRollout
from models.world_model import WorldModel, normalise
from planner_server.planning import (
    Budget,
    Context,
    Dynamics,
    Planner,
    PlanningError,
    PlanningProblem,
    WorldModelDynamics,
)

Key = TypeVar("Key", bound=Hashable)

Ways = dict[str, Callable[[Tensor], object]]
"""Ways of imagining candidates, by name."""
CACHED = "cached"
FROM_SCRATCH = "from scratch, masked"
_CALLS = 5


@dataclass(frozen=True)
class Cost:
    """Median time [ms] of one model call."""

    way: str
    horizon: int
    candidates: int
    milliseconds: float

    @property
    def per_rollout_ms(self) -> float:
        """Time of one candidate [ms]."""
        return self.milliseconds / self.candidates


def over_horizon(
    ways: Ways,
    horizons: Sequence[int],
    candidates: int,
    device: torch.device,
) -> list[Cost]:
    """Time ways of imagining candidates over horizons."""
    calls = {
        (way, horizon): partial(imagine, some_actions(candidates, horizon, device))
        for way, imagine in ways.items()
        for horizon in horizons
    }
    return [
        Cost(way, horizon, candidates, milliseconds)
        for (way, horizon), milliseconds in _race(calls).items()
    ]


def arithmetic(config: ACPredictorConfig, horizon: int) -> dict[str, float]:
    """Count what one candidate costs [GFLOP] with the cache and from scratch, on a network without weights."""
    with torch.device("meta"):
        predictor = ACPredictor(config)
        tokens = torch.zeros(1, config.tokens_per_frame, config.embed_dim)
        conditions = torch.zeros(1, horizon, config.action_dim)
        rollout = ACRollout(predictor)
        memory = rollout.remember(tokens, conditions[:, :1], conditions[:, :0])
        with FlopCounterMode(display=False) as cached, torch.no_grad():
            rollout.imagine(memory, conditions[:, None])
        with FlopCounterMode(display=False) as scratch, torch.no_grad():
            for step in range(1, horizon + 1):
                so_far = conditions[:, :step]
                predictor(tokens.repeat(1, step, 1), so_far, so_far if config.use_state else None)
    counters = {CACHED: cached, FROM_SCRATCH: scratch}
    return {way: counter.get_total_flops() / 1e9 for way, counter in counters.items()}


def over_batches(model: WorldModel, sizes: Sequence[int]) -> Iterator[Cost]:
    """Time one step of batches in every precision and form that the device has."""
    context, is_cuda = some_context(model, 1), _device(model).type == "cuda"
    ways: Ways = {
        "float32": partial(WorldModelDynamics(model).rollout, context),
        "bfloat16, masked": partial(from_scratch, in_bfloat16(model.predictor), context),
        "bfloat16": partial(WorldModelDynamics(model, "bfloat16").rollout, context),
    }
    if is_cuda:
        graphs = WorldModelDynamics(model, "bfloat16", compiled=True)
        ways["bfloat16, compiled, graphs"] = partial(graphs.rollout, context)
        try:
            eighth = WorldModelDynamics(model, "float8", compiled=True)
            ways["float8, compiled, graphs"] = partial(eighth.rollout, context)
        except PlanningError as error:
            print(f"no float8 row: {error}")
    for size in sizes:
        actions = some_actions(size, 1, _device(model))
        calls = {way: partial(imagine, actions) for way, imagine in ways.items()}
        for way, milliseconds in _race(calls).items():
            yield Cost(way, 1, size, milliseconds)


@torch.inference_mode()
def over_batch_size(dynamics: Dynamics, context: Context, sizes: Sequence[int]) -> dict[int, float]:
    """Time batches of one step for the first problem of a context.

    Returns:
        Seconds per rollout of every size: the knee is the smallest size that is nearly as fast as the fastest.
    """
    one, seconds = context.select(slice(0, 1)), {}
    for size in sizes:
        call = partial(dynamics.rollout, one, some_actions(size, 1, context.tokens.device))
        seconds[size] = min(_seconds(call) for _ in range(_CALLS)) / size
    return seconds


@dataclass(frozen=True)
class Together:
    """Time [ms] of planning several robots' problems in one call, and in one call each."""

    problems: int
    evaluations: int
    together_ms: float
    one_by_one_ms: float


def together(planner: Planner, problems: Sequence[PlanningProblem], evaluations: int) -> Together:
    """Time problems planned together and one after another."""
    budget = Budget(max_evaluations=evaluations)

    def one_by_one() -> None:
        for problem in problems:
            planner.plan([problem], budget)

    times = _race({"together": lambda: planner.plan(problems, budget), "one by one": one_by_one})
    return Together(len(problems), evaluations, times["together"], times["one by one"])


def some_context(model: WorldModel, problems: int) -> Context:
    """Return random tokens for a model; time does not depend on them."""
    return context_for(model.predictor, problems)


def context_for(predictor: ACPredictor, problems: int) -> Context:
    """Return random tokens for a predictor."""
    config, device = predictor.config, predictor.predictor_proj.weight.device
    generator = torch.Generator().manual_seed(0)
    shape = (problems, config.tokens_per_frame, config.embed_dim)
    tokens = normalise(torch.randn(shape, generator=generator))
    zeros = torch.zeros(problems, 1, 7, device=device)
    return Context(tokens.to(device), zeros, zeros[:, :0])


def some_actions(candidates: int, horizon: int, device: torch.device) -> Tensor:
    """Return random actions `[1, S, H, 7]`."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand((1, candidates, horizon, 7), generator=generator) * 0.1).to(device)


def from_scratch(predictor: ACPredictor, context: Context, actions: Tensor) -> None:
    """Unroll the published way: every step sends the whole history through, under a dense mask."""
    candidates, done = actions.shape[1], actions[0].bfloat16()
    tokens, states = (
        value.bfloat16().expand(candidates, -1, -1) for value in (context.tokens, context.states)
    )
    for step in range(actions.shape[2]):
        inputs = (tokens, done[:, : step + 1], states)
        predicted = reference_path.predict(predictor, *inputs)
        tokens = torch.cat([tokens, predicted], dim=1)
        states = torch.cat([states, states[:, -1:]], dim=1)


@torch.inference_mode()
def _race(calls: Mapping[Key, Callable[[], object]]) -> dict[Key, float]:
    """Return the median time [ms] of every call; they take turns, so that a busy moment hits all."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for turn in range(_CALLS + 1):
        for key, call in calls.items():
            taken_s = _seconds(call)
            if turn:  # the first one warms up
                times[key].append(1e3 * taken_s)
    return {key: statistics.median(values) for key, values in times.items()}


def _seconds(call: Callable[[], object]) -> float:
    """Return the time of a call, what it left queued on a GPU included [s]."""
    begun_s = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun_s


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call [ms]."""
    return _race({0: call})[0]


def in_bfloat16(predictor: ACPredictor) -> ACPredictor:
    """Return a copy."""
    return copy.deepcopy(predictor).to(torch.bfloat16)


def _device(model: WorldModel) -> torch.device:
    return next(model.parameters()).device
