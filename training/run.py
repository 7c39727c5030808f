"""The two trainings from files to files, as the command line calls them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.ac_predictor import ACPredictor
from models.checkpoint import save_world_model
from models.config import WorldModelConfig
from models.encoder import VisionTransformer
from models.world_model import WorldModel
from training.config import PosttrainConfig, PretrainConfig, load_recipe
from training.errors import ConfigurationError
from training.latents import encode_data
from training.posttrain import TransitionSampler, scale_inputs, train_predictor
from training.pretrain import ENCODER_FILE, pretrain
from training.progress import RunLog
from trajectories.shards import open_shards

_ENCODER_CONFIG = "pretrain.json"
_STORED_TYPE = torch.float16  # half the file; planning computes in bfloat16 or from these values


def run_pretrain(recipe: Path, data: Path, output: Path) -> None:
    """Pretrain an encoder on the frames below `data` and keep it with its recipe in `output`."""
    config = load_recipe(recipe, PretrainConfig)
    shards = open_shards(data)
    output.mkdir(parents=True, exist_ok=True)
    (output / _ENCODER_CONFIG).write_text(config.model_dump_json(indent=1))
    pretrain(config, shards, output)


def run_posttrain(recipe: Path, data: Path, encoder_run: Path, output: Path) -> None:
    """Post-train a predictor on the frozen encoder of `encoder_run`; write a world model."""
    config = load_recipe(recipe, PosttrainConfig)
    encoder = load_encoder(encoder_run)
    shards = open_shards(data)
    states = shards.states
    tokens = encode_data(encoder, shards)
    torch.manual_seed(config.seed)
    predictor = ACPredictor(config.predictor)
    scale_inputs(predictor, states, config.action_scale_m)
    sampler = TransitionSampler(tokens, states, config.max_stride, config.max_step_m)
    with RunLog(output, "post-training", config.optimiser.steps) as log:
        train_predictor(config, predictor, sampler, log)
    model_config = WorldModelConfig(
        name=config.name,
        encoder=encoder.config,
        predictor=config.predictor,
        control_period_s=config.control_period_s,
        max_step_m=config.max_step_m,
    )
    origin = {
        "data": shards.shards[0].attributes,
        "episodes": len(shards),
        "pretraining": json.loads((encoder_run / _ENCODER_CONFIG).read_text()),
        "post_training": config.model_dump(mode="json"),
    }
    save_world_model(
        WorldModel(model_config, encoder, predictor), output, origin, dtype=_STORED_TYPE
    )


def load_encoder(run: Path) -> VisionTransformer:
    """Load the encoder that `run_pretrain` left in a run folder, frozen.

    Raises:
        ConfigurationError: The folder holds no finished pretraining.
    """
    if not (run / ENCODER_FILE).is_file():
        raise ConfigurationError(f"no {ENCODER_FILE} in {run}; run `python -m training pretrain`")
    config = PretrainConfig.model_validate_json((run / _ENCODER_CONFIG).read_text())
    encoder = VisionTransformer(config.encoder)
    encoder.load_state_dict(load_file(run / ENCODER_FILE))
    return encoder.eval().requires_grad_(requires_grad=False)
