"""The whole way from recorded episodes to a loadable world model, through the command line."""

import numpy as np
import pytest
import torch
import yaml

from models.checkpoint import load_world_model
from training.__main__ import main
from training.config import PretrainConfig, load_recipe
from training.errors import ConfigurationError
from trajectories.shards import ShardWriter

ENCODER = dict(img_size=[32, 32], patch_size=8, num_frames=4, embed_dim=48, depth=1, num_heads=2)
OPTIMISER = dict(steps=4, batch_size=2, learning_rate=1e-3, warmup_steps=1, weight_decay=0.04)
PRETRAIN = dict(
    encoder=ENCODER,
    predictor=dict(
        grid_size=[4, 4],
        embed_dim=48,
        predictor_embed_dim=24,
        depth=1,
        num_heads=2,
        num_mask_tokens=2,
    ),
    clip_frames=4,
    momentum=[0.9, 0.99],
    optimiser=OPTIMISER,
)
POSTTRAIN = dict(
    name="tiny",
    predictor=dict(
        grid_size=[4, 4], embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2, residual=True
    ),
    control_period_s=1.0,
    max_step_m=0.15,
    max_stride=2,
    rollout_every=2,
    action_scale_m=0.05,
    optimiser=OPTIMISER,
)


@pytest.fixture
def episodes(tmp_path):
    rng = np.random.default_rng(0)
    writer = ShardWriter(tmp_path / "episodes" / "shard-00000", 6, (32, 32), {})
    for _ in range(4):
        states = np.zeros((6, 7))
        states[:, :3] = np.cumsum(rng.uniform(-0.05, 0.05, (6, 3)), axis=0)
        writer.append(rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), states, "test")
    writer.close()
    return tmp_path / "episodes"


def write(path, recipe):
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def test_two_commands_make_a_world_model(tmp_path, episodes):
    pretrain = write(tmp_path / "pretrain.yaml", PRETRAIN)
    posttrain = write(tmp_path / "posttrain.yaml", POSTTRAIN)
    encoder, output = str(tmp_path / "encoder"), str(tmp_path / "world_model")
    data = ["--data", str(episodes)]
    assert main(["pretrain", "--config", pretrain, *data, "--output", encoder]) == 0
    arguments = ["--config", posttrain, *data, "--encoder", encoder, "--output", output]
    assert main(["posttrain", *arguments]) == 0

    model = load_world_model(tmp_path / "world_model")
    assert model.config.name == "tiny"
    tokens = model.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert tokens.shape == (1, 16, 48)
    assert (tmp_path / "encoder" / "log.csv").read_text().startswith("step,")


def test_a_missing_encoder_names_the_command_that_makes_one(tmp_path, episodes, capsys):
    posttrain = write(tmp_path / "posttrain.yaml", POSTTRAIN)
    arguments = ["--config", posttrain, "--data", str(episodes), "--encoder", str(tmp_path)]
    assert main(["posttrain", *arguments, "--output", str(tmp_path / "out")]) == 1
    assert "python -m training pretrain" in capsys.readouterr().err


def test_missing_data_name_the_command_that_makes_some(tmp_path, capsys):
    recipe = write(tmp_path / "pretrain.yaml", PRETRAIN)
    arguments = ["--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main(["pretrain", "--config", recipe, *arguments]) == 1
    assert "python -m simulation generate" in capsys.readouterr().err


def test_an_unknown_key_in_a_recipe_is_refused(tmp_path):
    recipe = write(tmp_path / "pretrain.yaml", {**PRETRAIN, "learnign_rate": 1})
    with pytest.raises(ConfigurationError, match="learnign_rate"):
        load_recipe(tmp_path / "pretrain.yaml", PretrainConfig)
    assert recipe


@pytest.mark.parametrize("name", ["demo_pretrain.yaml", "demo_posttrain.yaml"])
def test_the_shipped_recipes_are_valid(name, request):
    from training.config import PosttrainConfig

    kind = PretrainConfig if "pretrain" in name else PosttrainConfig
    assert load_recipe(request.config.rootpath / "configs" / "training" / name, kind)
