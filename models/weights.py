"""Tensors into networks: strictly, in one pass, and with every difference named.

A state is a mapping from plain parameter names to tensors. It may be lazy: nothing here reads a
tensor before it is needed, or keeps it after it was copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from models.errors import CheckpointMismatchError

State = Mapping[str, Tensor]
_Network = TypeVar("_Network", bound=nn.Module)

UNUSED_LAYER = "extrinsics_encoder."
"""Allocated in published predictors though no camera pose is used; jepa-wms leaves it out."""

HARMLESS_KEYS = frozenset({"pos_embed", "predictor_pos_embed"})
"""Position tables of the variant without rotary embedding; older files carry them unused."""


@dataclass(frozen=True)
class Difference:
    """What keeps a state from being exactly the weights of a network.

    Attributes:
        missing: Parameters of the network that the state lacks.
        unexpected: Entries of the state that the network has no place for.
        misshaped: Parameters whose shapes differ, each as "name: found [..], expected [..]".
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)


def compare(network: nn.Module, state: State) -> Difference:
    """Return how a state differs from the parameters of a network (which may be on `meta`)."""
    expected = network.state_dict()
    return Difference(
        missing=tuple(name for name in expected if name not in state),
        unexpected=tuple(name for name in state if name not in expected),
        misshaped=tuple(
            f"{name}: found {list(state[name].shape)}, expected {list(value.shape)}"
            for name, value in expected.items()
            if name in state and state[name].shape != value.shape
        ),
    )


def load_strictly(
    network: nn.Module,
    state: State,
    source: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Give a network exactly the weights in `state`, replacing its parameters.

    Args:
        network: The network; may live on the meta device.
        state: Every parameter of it, and nothing else.
        source: Where the weights come from, for the error.
        device: Where the weights shall live.
        dtype: Type of the weights in memory; whole numbers keep theirs.

    Raises:
        CheckpointMismatchError: Names or shapes differ; all differences are listed.
    """
    difference = compare(network, state)
    if difference:
        raise CheckpointMismatchError(
            source, difference.missing, difference.unexpected, difference.misshaped
        )
    # A copy, so that nothing keeps pointing into a memory-mapped file; one tensor at a time.
    weights = {name: cast(state[name], device, dtype, copy=True) for name in state}
    network.load_state_dict(weights, assign=True)
    network.to(device)  # tables outside of the state


def cast(
    value: Tensor, device: str | torch.device, dtype: torch.dtype | None, *, copy: bool = False
) -> Tensor:
    """Return a tensor on a device, in another type where it holds numbers; counters and indices keep theirs."""
    return value.to(device, dtype if value.is_floating_point() else None, copy=copy)


def fit_unused_layer(state: State, network: nn.Module) -> State:
    """Return a predictor's state with the camera layer as the network has it, where it is unused.

    The layer is filled with zeros where the state lacks it entirely, and left out where the network
    lacks it. Nothing is changed for a predictor that uses it, or for any other network.
    """
    if not isinstance(network, ACPredictor) or network.config.use_extrinsics:
        return state
    expected = {
        name: value.shape
        for name, value in network.state_dict().items()
        if name.startswith(UNUSED_LAYER)
    }
    if expected and not any(name.startswith(UNUSED_LAYER) for name in state):
        return {**state, **{name: torch.zeros(shape) for name, shape in expected.items()}}
    if not expected:
        return {name: state[name] for name in state if not name.startswith(UNUSED_LAYER)}
    return state


def on_meta(build: Callable[[], _Network]) -> _Network:
    """Build a network without drawing or holding weights, where it can do without.

    Networks that keep tables outside of their state are built in memory: nothing would fill those.
    """
    with torch.device("meta"):
        network = build()
    stored = network.state_dict()
    if all(name in stored for name, _ in network.named_buffers()):
        return network
    return build()


def frozen(network: _Network) -> _Network:
    """Return the network in evaluation mode, its parameters closed to training."""
    return network.eval().requires_grad_(requires_grad=False)
