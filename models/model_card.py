"""The model card that goes with weights: a `README.md` made from their configuration and origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from models.config import EncoderConfig, TimmEncoderConfig, WorldModelConfig

CARD_FILE: Final = "README.md"
MARK: Final = "<!-- written with the weights; a card without this line is never replaced -->"


def model_card(config: WorldModelConfig | EncoderConfig, metadata: Mapping[str, Any]) -> str:
    """Return the card as Markdown: what the model is, what it expects, and where it comes from."""
    if isinstance(config, WorldModelConfig):
        title, facts = config.name, _world_model_facts(config)
    else:
        title, facts = "V-JEPA 2 encoder", _encoder_facts(config)
    lines = [MARK, f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {text} |" for label, text in facts.items()]
    lines += ["", "Load it with `models.checkpoint`, look at it with `python -m models doctor`."]
    if metadata:
        lines += ["", "## Origin", "", "```json", json.dumps(dict(metadata), indent=1), "```"]
    return "\n".join(lines) + "\n"


def _world_model_facts(config: WorldModelConfig) -> dict[str, str]:
    predictor = config.predictor
    conditions = (
        ["action"] + ["state"] * predictor.use_state + ["camera"] * predictor.use_extrinsics
    )
    return {
        **_encoder_facts(config.encoder),
        "Predictor": f"{predictor.depth} blocks of width {predictor.predictor_embed_dim}, "
        f"conditioned on {', '.join(conditions)}",
        "Frame geometry": config.frame_geometry,
        "Control period": f"{config.control_period_s} s per action",
        "Largest action": f"{config.max_step_m} m and {config.max_rotation_rad} rad per axis, "
        f"gripper {config.max_gripper}",
    }


def _encoder_facts(config: EncoderConfig | TimmEncoderConfig) -> dict[str, str]:
    height, width = config.img_size
    facts = {
        "Frames": f"{height} x {width} px, {config.tokens_per_frame} tokens of {config.embed_dim}"
    }
    if isinstance(config, TimmEncoderConfig):
        return {"Encoder": f"timm, {config.timm_model}", **facts}
    return {
        "Encoder": f"{config.depth} blocks of width {config.width}, {config.attention} attention",
        **facts,
        "Rotary flavour": str(config.rope),
    }
