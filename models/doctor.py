"""What a checkpoint is, and what would be loaded from it: `python -m models doctor`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.checkpoint import open_checkpoint
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    MaskPredictorConfig,
    TimmEncoderConfig,
    WorldModelConfig,
)
from models.contents import ENCODER_KEYS, Contents
from models.convert import holds_world_model
from models.identity import (
    NetworkConfig,
    differences,
    encoder_presets,
    predictor_presets,
    rope_flavour,
)
from models.weights import Difference, State

_COUNTERS = ("epoch", "step", "steps", "itr", "loss", "batch_size", "world_size", "lr")


@dataclass(frozen=True)
class NetworkReport:
    """One network of a checkpoint.

    Attributes:
        key: The checkpoint's name for it.
        kind: What it is: encoder, mask predictor, action-conditioned predictor.
        facts: What can be said about it, label by label, for reading.
        fits: Known configurations that it is exactly the weights of.
        nearest: The configuration that comes nearest, where none fits.
        difference: How it differs from `nearest`; empty where one fits.
    """

    key: str
    kind: str
    facts: Mapping[str, str]
    fits: tuple[str, ...]
    nearest: str
    difference: Difference


@dataclass(frozen=True)
class Report:
    """A checkpoint, examined.

    Attributes:
        source: File or folder.
        layout: Who wrote it.
        facts: What can be said about the whole, label by label, for reading.
        networks: Its networks.
        loads_as: What the loading functions would make of it, or why they refuse.
        is_loadable: Whether anything can be loaded from it strictly.
    """

    source: str
    layout: str
    facts: Mapping[str, str]
    networks: Sequence[NetworkReport]
    loads_as: str
    is_loadable: bool


def examine(source: str | os.PathLike[str]) -> Report:
    """Open a checkpoint and compare its networks with every configuration that is known.

    Raises:
        ModelError: It cannot be opened at all; see `models.checkpoint.open_checkpoint`.
    """
    contents = open_checkpoint(source)
    reports = [
        _examine_network(contents, key)
        for key in contents.networks
        if key != "world_model"  # its parts are listed
    ]
    is_loadable, loads_as = _judge(contents, reports)
    return Report(
        source=contents.source,
        layout=contents.layout,
        facts=_facts(contents),
        networks=reports,
        loads_as=loads_as,
        is_loadable=is_loadable,
    )


def _examine_network(contents: Contents, key: str) -> NetworkReport:
    state = contents.network(key)
    kind, candidates = _candidates(contents, key, state)
    found = differences(state, candidates)
    fits = tuple(name for name, difference in found.items() if not difference)
    nearest = next(iter(found), "")
    return NetworkReport(
        key=key,
        kind=kind,
        facts={**_network_facts(contents, key, kind), **_grids([candidates[k] for k in fits])},
        fits=fits,
        nearest="" if fits else nearest,
        difference=found[nearest] if found else Difference((), (), ()),
    )


def _candidates(
    contents: Contents, key: str, state: State
) -> tuple[str, Mapping[str, NetworkConfig]]:
    """Return what kind of network it is, and the configurations it may have."""
    own = _own_config(contents, key)
    carried: dict[str, NetworkConfig] = {} if own is None else {"its own configuration": own}
    if key in ENCODER_KEYS:
        known = contents.config
        part = known.encoder if isinstance(known, WorldModelConfig) else known
        if isinstance(part, TimmEncoderConfig):
            return f"encoder of timm ({part.timm_model})", {}
        return "encoder", {**carried, **encoder_presets()}
    is_conditioned = "action_encoder.weight" in state
    wanted = ACPredictorConfig if is_conditioned else MaskPredictorConfig
    presets = {k: v for k, v in predictor_presets().items() if isinstance(v, wanted)}
    kind = "action-conditioned predictor" if is_conditioned else "mask predictor"
    return kind, {**carried, **presets}


def _own_config(contents: Contents, key: str) -> NetworkConfig | None:
    """Return the configuration that the checkpoint itself carries for a network."""
    known = contents.config
    if key == "predictor":
        return known.predictor if isinstance(known, WorldModelConfig) else None
    part = known.encoder if isinstance(known, WorldModelConfig) else known
    return part if isinstance(part, EncoderConfig) else None


def _network_facts(contents: Contents, key: str, kind: str) -> dict[str, str]:
    state = contents.network(key)
    tensors = {name: state[name] for name in state}
    blocks = {
        name.split(".")[1] for name in tensors if name.startswith(("blocks.", "predictor_blocks."))
    }
    facts = {
        "parameters": f"{sum(value.numel() for value in tensors.values()):,}",
        "type": ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})),
        "key prefix": repr(contents.prefixes.get(key, "")),
        "blocks": str(len(blocks)),
    }
    patches = tensors.get("patch_embed.proj.weight")
    if key in ENCODER_KEYS and patches is not None and patches.ndim == 5:
        width, _, tubelet, patch, _ = patches.shape
        facts["width"] = str(width)
        facts["patch"] = f"{patch} x {patch} px, {tubelet} frames"
        facts["RoPE flavour"] = _flavour(contents, key)
    if kind == "action-conditioned predictor":
        facts["width"] = " x ".join(map(str, tensors["action_encoder.weight"].shape[:1]))
        has_state = "state_encoder.weight" in tensors
        facts["conditions per frame"] = "action, state" if has_state else "action"
    return facts


def _grids(configs: Sequence[NetworkConfig]) -> dict[str, str]:
    """Return resolution and tokens per frame of the configurations that fit."""
    facts: dict[str, dict[str, None]] = {}
    for config in configs:
        if isinstance(config, EncoderConfig):
            facts.setdefault("resolution", {})[_resolution(config.img_size)] = None
            facts.setdefault("tokens per frame", {})[str(config.tokens_per_frame)] = None
        elif isinstance(config, ACPredictorConfig):
            facts.setdefault("tokens per frame", {})[_tokens(config)] = None
    return {label: " or ".join(texts) for label, texts in facts.items()}


def _tokens(config: ACPredictorConfig) -> str:
    patches, conditions = config.tokens_per_frame, config.condition_tokens
    return f"{patches} patches + {conditions} = {patches + conditions}"


def _flavour(contents: Contents, key: str) -> str:
    own = _own_config(contents, key)
    if isinstance(own, EncoderConfig):
        return f"{own.rope} (stored)"
    return f"{rope_flavour(contents.network(key))} (by the key names)"


def _facts(contents: Contents) -> dict[str, str]:
    facts: dict[str, str] = {"layout": contents.layout}
    known = contents.config
    if isinstance(known, WorldModelConfig):
        facts["name"] = known.name
        facts["frame geometry"] = known.frame_geometry
        facts["control period"] = f"{known.control_period_s} s"
        facts["tokens per frame"] = _tokens(known.predictor)
        facts["resolution"] = _resolution(known.encoder.img_size)
    elif known is not None:
        facts["tokens per frame"] = f"{known.tokens_per_frame} patches"
        facts["resolution"] = _resolution(known.img_size)
    facts["training step"] = _counters(contents.metadata) or "not stored"
    if contents.harmless:
        facts["left out as harmless"] = ", ".join(contents.harmless)
    return facts


def _resolution(img_size: tuple[int, int]) -> str:
    return f"{img_size[0]} x {img_size[1]} px"


def _counters(metadata: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {metadata[name]}" for name in _COUNTERS if name in metadata)


def _judge(contents: Contents, reports: Sequence[NetworkReport]) -> tuple[bool, str]:
    """Return whether something can be loaded, and what."""
    fitting = {report.key for report in reports if report.fits}
    encoders = [key for key in ENCODER_KEYS if key in fitting]
    if isinstance(contents.config, WorldModelConfig) and isinstance(
        contents.config.encoder, TimmEncoderConfig
    ):
        encoders = ["encoder"]
    if holds_world_model(contents):
        if "predictor" not in fitting:
            return bool(encoders), "no world model: its predictor fits no known configuration" + (
                f"; load_encoder takes {encoders[0]!r}" if encoders else ""
            )
        if encoders:
            return True, "load_world_model: a world model for planning; load_encoder: its encoder"
        if any(key in contents.networks for key in ENCODER_KEYS):
            return False, "no world model: its encoder fits no known configuration"
        return True, "load_world_model with encoder=<source of the encoder>: the predictor alone"
    if encoders:
        return True, f"load_encoder: {encoders[0]!r}"
    return False, "nothing: no network fits a known configuration; pass config= when loading"


def difference_to(report: NetworkReport) -> Mapping[str, Sequence[str]]:
    """Return what is missing, unexpected and misshaped, by these words."""
    difference = report.difference
    return {
        "missing": difference.missing,
        "unexpected": difference.unexpected,
        "of another shape": difference.misshaped,
    }
