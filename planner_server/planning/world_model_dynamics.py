"""The world model as planners use it: its predictor in the precision and form that is fastest where it runs."""

from __future__ import annotations

import copy
import logging
import weakref
from typing import Literal, get_args

import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.packed import can_pack, packed_rollout
from models.rollout import ACRollout
from models.rollout_memory import Memory
from models.world_model import WorldModel
from planner_server.planning.compiled_step import COMPILED_SIZES, CompiledStep
from planner_server.planning.dynamics import Context, Dynamics
from planner_server.planning.errors import PlanningError
from planner_server.planning.rollouts import RolloutEngine, RolloutSettings
from planner_server.planning.throughput import Work

Precision = Literal["float32", "bfloat16", "float8"]

logger = logging.getLogger(__name__)

_FLOAT8_CAPABILITY = (8, 9)
_GRAPH_RUNS = 3  # torch records a CUDA graph in the second run of a compiled function, and replays it from the third on


class WorldModelDynamics:
    """A `Dynamics` around the predictor of a world model.

    Args:
        model: The world model; it stays as it is.
        precision: What the predictor's weights and products are: float32, bfloat16 (about 1e-2 less exact), or
            float8 (products in 8 bits, the rest in bfloat16; CUDA of compute capability 8.9 and torchao). Such
            products have no gradient: where one is asked for, the predictor is that of bfloat16.
        compiled: Compile single steps of one problem from one frame of context, and replay them as graphs on CUDA;
            see `CompiledStep`. The first call of each of its sizes takes tens of seconds.

    Attributes:
        predictor: What imagines, in this precision.

    Raises:
        PlanningError: The precision is unknown, or the device cannot compute in it.
    """

    def __init__(
        self, model: WorldModel, precision: Precision = "float32", *, compiled: bool = False
    ) -> None:
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise PlanningError(f"precision {precision!r} does not exist; known: {known}")
        self._exact = WorldModelDynamics(model, "bfloat16") if precision == "float8" else None
        if self._exact is None:
            self.predictor = _cast(model.predictor, precision)
        else:
            self.predictor = _quantised(self._exact.predictor)
        plain = ACRollout(self.predictor)
        self._plain = self._fast = _Remembering(plain)
        if can_pack(self.predictor):
            self._fast = _Remembering(packed_rollout(self.predictor))
        self._compiled = CompiledStep(plain, _device(self.predictor)) if compiled else None

    @property
    def exact(self) -> Dynamics:
        """The same model in bfloat16 where this one multiplies in 8 bits; otherwise itself."""
        return self if self._exact is None else self._exact

    @property
    def max_frames(self) -> int:
        """Most frames of context and horizon together, k + H - 1."""
        return self.predictor.config.max_frames

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine the future of candidates; see `Dynamics.rollout`."""
        if torch.is_grad_enabled() and actions.requires_grad:
            if self._exact is not None:
                return self._exact.rollout(context, actions)
            return self._plain.imagine(context, actions)
        problems, candidates, horizon = actions.shape[:3]
        size = self._filled(Work(horizon, context.frames), problems, candidates)
        if self._compiled is None or size is None:
            return self._fast.imagine(context, actions)
        return self._compiled.imagine(self._plain.memory(context), actions, size)

    def compile_steps(self, most: int) -> None:
        """Compile every step of at most so many candidates now, so that no robot waits for that; nothing without."""
        if self._compiled is None:
            return
        device, config = _device(self.predictor), self.predictor.config
        tokens = torch.zeros(1, config.tokens_per_frame, config.embed_dim, device=device)
        states = torch.zeros(1, 1, 7, device=device)
        memory = self._plain.memory(Context(tokens, states, states[:, :0]))
        for size in COMPILED_SIZES:
            if size > most:
                break
            actions = torch.zeros(1, size, 1, 7, device=device)
            try:
                for _ in range(_GRAPH_RUNS):
                    self._compiled.imagine(memory, actions, size)
            except torch.OutOfMemoryError:
                logger.warning(
                    "steps of %d candidates and more do not fit, and are not compiled", size
                )
                break

    def computed(self, work: Work, problems: int, candidates: int) -> int:
        """Return how many rollouts are computed in a call for so many problems and candidates."""
        return self._filled(work, problems, candidates) or problems * candidates

    def _filled(self, work: Work, problems: int, candidates: int) -> int | None:
        """Return how many candidates a compiled call is filled up to; None: it is not compiled."""
        return None if self._compiled is None else self._compiled.size(work, problems, candidates)


def engine_for(
    model: WorldModel,
    precision: Precision = "float32",
    *,
    compiled: bool = False,
    settings: RolloutSettings | None = None,
) -> RolloutEngine:
    """Return the engine that searches with a world model; what it found in float8 is scored in bfloat16.

    Raises:
        PlanningError: The precision is unknown, or the device cannot compute in it.
    """
    dynamics = WorldModelDynamics(model, precision, compiled=compiled)
    return RolloutEngine(dynamics, settings, dynamics.exact, dynamics.computed)


class _Remembering:
    """A rollout that keeps what it computed of every context as long as the context lives."""

    def __init__(self, rollout: ACRollout) -> None:
        self._rollout = rollout
        self._memories: weakref.WeakKeyDictionary[Context, Memory] = weakref.WeakKeyDictionary()

    def imagine(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        return self._rollout.imagine(self.memory(context), actions)

    def memory(self, context: Context) -> Memory:
        """Return what all candidates share, as tensors that a gradient may pass by."""
        memory = self._memories.get(context)
        if memory is None:
            with torch.inference_mode(mode=False), torch.no_grad():
                tokens, states, actions = (
                    value.clone() if value.is_inference() else value
                    for value in (context.tokens, context.states, context.actions)
                )
                memory = self._rollout.remember(tokens, states, actions)
            self._memories[context] = memory
        return memory


def _cast(predictor: ACPredictor, precision: Precision) -> ACPredictor:
    """Return the predictor itself, or a copy of it with other weights; of float8 what is quantised."""
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    if predictor.predictor_proj.weight.dtype != dtype:
        predictor = copy.deepcopy(predictor).to(dtype).requires_grad_(requires_grad=False)
    return predictor


def _quantised(predictor: ACPredictor) -> ACPredictor:
    """Return a copy whose blocks multiply in 8 bits, scaled row by row."""
    device = _device(predictor)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if capability < _FLOAT8_CAPABILITY:
        raise PlanningError(
            f"precision float8 needs CUDA of compute capability 8.9, and the model is on {device} "
            f"({capability[0]}.{capability[1]}); choose bfloat16"
        )
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            PerRow,
            quantize_,
        )
    except ImportError as error:
        raise PlanningError(
            "precision float8 needs torchao (pip install torchao); choose bfloat16"
        ) from error
    quantised = copy.deepcopy(predictor)
    quantize_(
        quantised.predictor_blocks, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    )
    return quantised


def _device(predictor: ACPredictor) -> torch.device:
    return predictor.predictor_proj.weight.device
