"""What every training recipe has in common, and how a recipe is read; an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

from models.config import FrozenConfig
from training.errors import ConfigurationError
from training.schedules import LearningRate, WeightDecay

Strategy = Literal["ddp", "fsdp"]
"""How several processes share the work: `ddp` copies the networks, `fsdp` shards every parameter."""

Precision = Literal["fp32", "bf16"]
TrackerName = Literal["tensorboard", "wandb"]
OptimiserKind = Literal["adamw", "adamw8bit", "paged_adamw8bit"]


class OptimiserConfig(FrozenConfig):
    """AdamW and what changes over a run."""

    kind: OptimiserKind = Field(
        default="adamw",
        description="`adamw` of torch, or bitsandbytes with its state in 8 bits, kept on the device "
        "or paged to the host.",
    )
    learning_rate: LearningRate = Field(description="Schedule of the learning rate.")
    weight_decay: WeightDecay = Field(
        default=WeightDecay(start=0.04, final=0.04),
        description="Schedule of the decay; biases, norms and other vectors are not decayed.",
    )
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: PositiveFloat | None = Field(
        default=None, description="Largest gradient norm; None, as published: not clipped."
    )


class SlurmConfig(FrozenConfig):
    """What `--slurm` asks the cluster for."""

    nodes: PositiveInt = 1
    tasks_per_node: PositiveInt = Field(default=8, description="Processes of a node, one per GPU.")
    gpus_per_node: NonNegativeInt = Field(default=8, description="0: run on CPUs.")
    cpus_per_task: PositiveInt = 12
    mem_gb: PositiveInt = Field(default=500, description="Memory of a node [GB].")
    timeout_min: PositiveInt = Field(default=4320, description="Time limit [min].")
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    requeues: NonNegativeInt = Field(
        default=20, description="How often a run that exceeds its time limit is queued again."
    )


class RunConfig(FrozenConfig):
    """How a training is run. Nothing here changes what is learned, beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = Field(default="bf16", description="Type that networks compute in.")
    strategy: Strategy = "ddp"
    compile: bool = Field(default=False, description="Compile the transformer blocks.")
    checkpoint_activations: bool = Field(
        default=False, description="Recompute activations backwards; less memory, more time."
    )
    deterministic: bool = Field(
        default=False, description="Refuse operations whose result depends on timing."
    )
    workers: NonNegativeInt = Field(default=0, description="Loading processes of every process.")
    log_every: PositiveInt = Field(default=50, description="Updates between two rows of the log.")
    save_every: PositiveInt = Field(default=1000, description="Updates between checkpoints.")
    keep_last: PositiveInt = Field(default=2, description="Checkpoints that are kept.")
    validate_every: NonNegativeInt = Field(
        default=0, description="Updates between validations; 0: none."
    )
    trackers: tuple[TrackerName, ...] = Field(
        default=(), description="Where rows go besides log.csv and log.jsonl."
    )
    slurm: SlurmConfig = SlurmConfig()


class TrainingRecipe(FrozenConfig):
    """Base of all recipes.

    A batch is made of groups: `micro_batch_size` samples that pass through the networks together.
    A process that has several groups of a batch accumulates their gradients, so that the result of
    an update does not depend on the number of processes.
    """

    seed: NonNegativeInt = 0
    steps: NonNegativeInt = Field(description="Updates; 0 keeps the initial weights (a baseline).")
    batch_size: PositiveInt = Field(description="Samples of an update, over all processes.")
    micro_batch_size: PositiveInt | None = Field(
        default=None, description="Samples of a forward pass; None: the whole batch."
    )
    optimiser: OptimiserConfig
    run: RunConfig = RunConfig()

    @property
    def group_size(self) -> int:
        """Samples that pass through the networks together."""
        return self.micro_batch_size or self.batch_size

    def groups(self, step: int) -> int:  # noqa: ARG002  recipes with stages need it
        """Return the number of groups in the batch of update `step` (from 0)."""
        return self.batch_size // self.group_size

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.batch_size % self.group_size:
            raise ValueError(
                f"micro_batch_size {self.group_size} does not divide batch_size {self.batch_size}"
            )
        return self


Recipe = TypeVar("Recipe", bound=FrozenConfig)


def load_recipe(path: Path, kind: type[Recipe], changes: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe.

    Args:
        path: The file.
        kind: What it describes.
        changes: Values to replace, each as `key.key=value` with a value in YAML; list items go by
            their number, and `*` stands for every key.

    Raises:
        ConfigurationError: The file is missing, unreadable, not YAML, or has unknown or invalid keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            content = _changed(content, change)
        return kind.model_validate(content)
    except FileNotFoundError as error:
        raise ConfigurationError(f"no recipe at {path}; see configs/training/") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as a recipe ({error}); give a YAML file"
        ) from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def dump_recipe(recipe: FrozenConfig) -> str:
    """Write a recipe as YAML, with every default spelt out."""
    return dump_tree(recipe.model_dump(mode="json"))


def dump_tree(content: Mapping[str, Any]) -> str:
    """Write a tree of plain values as YAML, in its own order."""
    return yaml.safe_dump(dict(content), sort_keys=False)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], start: str = "") -> list[str]:
    """List the dotted keys in which two recipes differ."""
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        name = f"{start}{key}"
        first, second = old.get(key), new.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            found += changed_keys(first, second, f"{name}.")
        elif first != second:
            found.append(name)
    return found


def _changed(content: Any, change: str) -> Any:
    """Return a YAML tree with one value replaced."""
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise ConfigurationError(f"{change!r} is no change; write key.key=value")
    _replace(content, path.split("."), yaml.safe_load(text), change)
    return content


def _replace(node: Any, keys: Sequence[str], value: Any, change: str) -> None:
    """Replace a value in a YAML tree."""
    key, *rest = keys
    if not isinstance(node, dict | list):
        raise ConfigurationError(f"{change!r}: there is no {key!r} to go to; look at the recipe")
    for place in _places(node, key, change):
        if not rest:
            node[place] = value
            continue
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = {}
        _replace(node[place], rest, value, change)


def _places(node: Any, key: str, change: str) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node) if key == "*" else [key]
    if key == "*":
        return range(len(node))
    if not key.isdigit() or int(key) >= len(node):
        raise ConfigurationError(f"{change!r}: there is no item {key!r}; look at the recipe")
    return [int(key)]
