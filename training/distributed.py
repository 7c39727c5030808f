"""One process or many: who takes part, how networks are shared, and how numbers are agreed on.

The code is the same for plain Python on a CPU and for `torchrun` on a cluster: a lone process is a
world of one, which needs no process group unless parameters are to be sharded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from models.layers import Block
from training.config import RunConfig
from training.errors import ConfigurationError

_PATIENCE = timedelta(minutes=30)  # ranks wait for each other while the first writes a checkpoint


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
            values = values / self.size
        return values

    def gather(self, mine: list[str]) -> list[list[str]]:
        """Collect lists of all processes; every process gets all of them."""
        if self.size == 1:
            return [mine]
        everything: list[list[str]] = [[] for _ in range(self.size)]
        dist.all_gather_object(everything, mine)
        return everything


@contextmanager
def open_world(config: RunConfig) -> Iterator[World]:
    """Join the processes that `torchrun` (or SLURM) started; alone, be a world of one.

    Raises:
        ConfigurationError: The recipe asks for a device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = _choose_device(config.device, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    grouped = size > 1 or config.strategy == "fsdp"
    if grouped:
        backend = "nccl" if device.type == "cuda" else "gloo"
        if size > 1:
            dist.init_process_group(backend, timeout=_PATIENCE)
        else:
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield World(rank, size, device)
    finally:
        if grouped:
            dist.destroy_process_group()


def share(network: nn.Module, config: RunConfig, world: World) -> nn.Module:
    """Put a network on its device and make it train together with those of the other processes.

    Returns:
        What to call instead of `network`; both have the same parameters.
    """
    network.to(world.device)
    if config.checkpoint_activations:
        for module in network.modules():
            if hasattr(module, "checkpoint_activations"):
                module.checkpoint_activations = True  # type: ignore[assignment]
    if config.compile:
        for module in network.modules():
            if isinstance(module, Block):
                module.compile(dynamic=True)  # the number of visible tokens changes every time
    if config.strategy == "fsdp":
        return _shard(network, config, world)
    if world.size == 1:
        return network
    # Placeholders for masks and inputs that a recipe does not use get no gradient.
    ids = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=True)


def accumulating(shared: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Exchange gradients only after the last of several backward passes."""
    if isinstance(shared, FSDPModule):
        shared.set_requires_gradient_sync(last)
        return nullcontext()
    if isinstance(shared, DistributedDataParallel) and not last:
        return shared.no_sync()
    return nullcontext()


def full_state(network: nn.Module) -> dict[str, Tensor]:
    """Collect all parameters of a network on the CPU; every process has to call it.

    Returns:
        The state of the whole network in the first process, where parameters are sharded; of a
        network that is not sharded, in every process.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Tensor] = get_model_state_dict(network, options=options)  # type: ignore[assignment]
    return state


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def _shard(network: nn.Module, config: RunConfig, world: World) -> nn.Module:
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy()
    if config.precision == "bf16":
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for module in network.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)
    return network


def _choose_device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigurationError("run.device is cuda, and there is none; use auto or cpu")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", local_rank)
