"""The encoder that a predictor is trained on: ours, a world model's, or timm's from a file."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import save_encoder, save_world_model
from models.config import ACPredictorConfig, WorldModelConfig, tiny
from models.encoder import VisionTransformer
from models.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from models.frozen_encoder import load_frozen_encoder
from models.timm_encoder import TimmEncoder, import_timm, timm_config
from models.world_model import WorldModel

PLAIN = "test_vit"  # timm's smallest: 64 channels, patches of 16 px, made for 160 px
GRID = (2, 2)


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """Weights as timm publishes them: at the resolution they were trained at, with a classifier."""
    torch.manual_seed(0)
    file = tmp_path / "model.safetensors"
    save_file(import_timm().create_model(PLAIN, num_classes=1000).state_dict(), file)
    return file


def test_timm_weights_of_a_file_are_used_at_the_resolution_of_the_grid(weights_file: Path) -> None:
    encoder = load_frozen_encoder(f"timm:{PLAIN}={weights_file}", GRID)
    assert encoder.config.img_size == (32, 32)
    assert encoder.config.grid_size == GRID
    assert not encoder.training
    assert not any(value.requires_grad for value in encoder.parameters())
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(encoder.network.state_dict()[name], load_file(weights_file)[name])
    as_trained = load_frozen_encoder(f"timm:{PLAIN}={weights_file}", (10, 10))
    assert as_trained.config.img_size == (160, 160)
    features = as_trained(torch.randn(1, 3, 1, 160, 160))
    assert features.shape == (1, 100, 64)


def test_a_world_model_lends_its_encoder_of_either_kind(tmp_path: Path) -> None:
    config = WorldModelConfig(
        name="timm",
        encoder=timm_config(PLAIN, (32, 32)),
        predictor=ACPredictorConfig(
            grid_size=GRID, embed_dim=64, predictor_embed_dim=32, depth=1, num_heads=2
        ),
        control_period_s=1.0,
        max_step_m=0.1,
    )
    model = WorldModel(config).eval()
    save_world_model(model, tmp_path / "timm")
    save_world_model(WorldModel(tiny()), tmp_path / "ours")
    lent = load_frozen_encoder(str(tmp_path / "timm"), GRID)
    clip = torch.randn(1, 3, 1, 32, 32)
    assert isinstance(lent, TimmEncoder)
    assert torch.equal(lent(clip), model.encoder(clip))
    assert isinstance(load_frozen_encoder(str(tmp_path / "ours"), GRID), VisionTransformer)


def test_an_encoder_alone_is_taken_as_it_is(tmp_path: Path) -> None:
    config = tiny().encoder
    save_encoder(VisionTransformer(config), tmp_path)
    assert load_frozen_encoder(str(tmp_path), GRID).config == config


def test_what_timm_cannot_load_says_why(weights_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights_file.read_bytes()[:1000])
    with pytest.raises(CorruptCheckpointError, match="no readable safetensors"):
        load_frozen_encoder(f"timm:{PLAIN}={damaged}", GRID)
    with pytest.raises(CheckpointNotFoundError, match="does not exist"):
        load_frozen_encoder(f"timm:{PLAIN}={tmp_path / 'nowhere'}", GRID)
    with pytest.raises(ConfigurationError, match="weights that are its own"):
        load_frozen_encoder(f"timm:vit_tiny_patch16_224={weights_file}", GRID)
    with pytest.raises(ConfigurationError, match="choose a vision transformer"):
        load_frozen_encoder("timm:resnet18", GRID)


def test_weights_of_timm_that_cannot_be_fetched_are_asked_for_as_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointNotFoundError, match=r"timm:test_vit\.r160_in1k=FILE"):
        load_frozen_encoder("timm:test_vit.r160_in1k", GRID)
