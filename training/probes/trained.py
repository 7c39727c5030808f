"""Probes that were trained before, here or elsewhere: their weights, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models.config import AttentiveProbeConfig
from models.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_safetensors
from models.probe_file import open_probe
from training.errors import ConfigurationError
from training.probes.config import AttentiveProbe, LinearProbe
from training.probes.evaluation import Task
from training.probes.results import PROBE_FORMAT
from training.probes.tasks import check_classes


@dataclass(frozen=True)
class TrainedProbes:
    """Heads that were trained before.

    Attributes:
        source: Where they come from, for messages.
        states: Weights of every head under plain names.
    """

    source: str
    states: Sequence[Mapping[str, Tensor]]


def open_trained(
    source: str, probe: AttentiveProbe | LinearProbe, embed_dim: int, task: Task
) -> TrainedProbes:
    """Open probes: a folder that a run left, or a published `.pt` file.

    Args:
        source: Folder, file or URL.
        probe: What the recipe expects them to be.
        embed_dim: Channels of the encoder's tokens.
        task: What they shall answer.

    Raises:
        ConfigurationError: They are other probes, made for tokens of another width, or know other
            classes.
        ModelError: They are missing or damaged.
    """
    if Path(source).is_dir():
        return _open_folder(Path(source), probe, embed_dim, task)
    if not isinstance(probe, AttentiveProbe):
        raise ConfigurationError(f"{source}: published probes are attentive, not {probe.kind}")
    file = open_probe(source, probe.num_heads)
    _check_shape(source, file.config, probe.network(embed_dim))
    if file.classes != task.outputs:
        raise ConfigurationError(
            f"{source} knows {list(file.classes)} classes, the data have {list(task.outputs)}; set "
            "data.classes to the list that it was trained with"
        )
    return TrainedProbes(source, file.heads)


def _open_folder(
    folder: Path, probe: AttentiveProbe | LinearProbe, embed_dim: int, task: Task
) -> TrainedProbes:
    description = read_description(folder)
    stored = dict(description["probe"])
    expected = {**probe.model_dump(mode="json"), "embed_dim": embed_dim}
    _check_shape(str(folder), stored, expected)
    classes = description["classes"]
    known = classes if isinstance(classes, dict) else {"label": classes}
    check_classes({name: tuple(names) for name, names in known.items()}, task, str(folder))
    return TrainedProbes(str(folder), [read_safetensors(folder / WEIGHTS_FILE)])


def _check_shape(
    source: str,
    found: AttentiveProbeConfig | Mapping[str, Any],
    expected: AttentiveProbeConfig | Mapping[str, Any],
) -> None:
    if found != expected:
        raise ConfigurationError(
            f"{source} holds a probe ({found}); the recipe and the encoder ask for ({expected}). Use "
            "the encoder and the recipe that it was trained with"
        )


def read_description(folder: Path) -> dict[str, Any]:
    """Read what a run wrote beside the weights of its best probe.

    Raises:
        ConfigurationError: It is no such folder.
    """
    try:
        content: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        version = content["format_version"], "probe" in content, "classes" in content
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{folder} is no folder of a probe ({error!r})") from error
    if version != (PROBE_FORMAT, True, True):
        raise ConfigurationError(
            f"{folder} is no folder of a probe of format {PROBE_FORMAT}; give the output of "
            "`python -m training probe`"
        )
    return content
