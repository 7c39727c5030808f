"""Frozen encoders from timm behind the interface of ours."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import load_world_model, save_world_model
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    TimmEncoderConfig,
    WorldModelConfig,
    tiny,
)
from models.encoders import build_encoder
from models.errors import ConfigurationError, InvalidInputError
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from models.readouts import encode_clip
from models.timm_encoder import TimmEncoder, timm_config
from models.world_model import WorldModel

DINOV2, DINOV3 = "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"
PLAIN = "test_vit"  # timm's smallest: 64 channels, patches of 16 px


def plain_config() -> TimmEncoderConfig:
    return TimmEncoderConfig(timm_model=PLAIN, img_size=(32, 32), embed_dim=64)


def world_config() -> WorldModelConfig:
    return WorldModelConfig(
        name="timm",
        encoder=plain_config(),
        predictor=ACPredictorConfig(
            grid_size=(2, 2), embed_dim=64, predictor_embed_dim=32, depth=1, num_heads=2
        ),
        control_period_s=1.0,
        max_step_m=0.1,
    )


@pytest.mark.parametrize(("name", "patch", "side"), [(DINOV2, 14, 28), (DINOV3, 16, 32)])
def test_dino_gives_its_patch_tokens_only(name: str, patch: int, side: int) -> None:
    config = timm_config(name, (side, 2 * side))
    assert (config.patch_size, config.embed_dim, config.grid_size) == (patch, 384, (2, 4))
    encoder = TimmEncoder(config).eval()
    clip = torch.randn(1, 3, 2, side, 2 * side)
    tokens = encoder(clip)
    assert tokens.shape == (1, 2 * 8, 384)
    features = encoder.network.forward_features(clip[:, :, 1])
    torch.testing.assert_close(tokens[:, 8:], features[:, -8:])


def test_frames_of_a_clip_do_not_see_each_other() -> None:
    encoder = TimmEncoder(plain_config()).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    alone = torch.cat([encoder(clip[:, :, frame : frame + 1]) for frame in range(3)], dim=1)
    torch.testing.assert_close(encoder(clip), alone, atol=1e-5, rtol=1e-5)


def test_pixels_are_normalised_as_the_network_expects() -> None:
    encoder = TimmEncoder(timm_config("vit_tiny_patch16_224", (32, 32))).eval()
    colours = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    seen: list[Tensor] = []
    encoder.network.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(((colours - mean) / std).unsqueeze(2))
    torch.testing.assert_close(seen[0], (colours - 0.5) / 0.5, atol=1e-5, rtol=0)


def test_a_world_model_plans_on_it_and_survives_being_stored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WorldModel(world_config()).eval()
    frames = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    tokens = model.encode(frames)
    assert tokens.shape == (2, 4, 64)
    torch.testing.assert_close(model.encode(frames[1:]), tokens[1:], atol=1e-5, rtol=1e-5)
    predicted, _ = model.rollout(tokens, torch.zeros(2, 7), torch.zeros(2, 2, 7))
    assert predicted.shape == (2, 2, 4, 64)
    save_world_model(model, tmp_path)
    again = load_world_model(tmp_path)
    assert again.config == model.config
    assert torch.equal(again.encode(frames), tokens)
    assert encode_clip(again.encoder, frames).shape == (8, 64)


def test_a_network_may_be_built_where_weights_are_about_to_be_loaded() -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(timm_config(DINOV3, (32, 32)))
    assert encoder(torch.zeros(1, 3, 1, 32, 32)).shape == (1, 4, 384)


def test_configurations_tell_the_kinds_of_encoder_apart() -> None:
    for config in (world_config(), tiny()):
        again = WorldModelConfig.model_validate_json(config.model_dump_json())
        assert again == config
        assert type(again.encoder) is type(config.encoder)
    assert isinstance(build_encoder(tiny().encoder).config, EncoderConfig)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("nonsense", "cannot build 'nonsense'"), ("resnet18", "cannot build 'resnet18'")],
)
def test_what_timm_cannot_build_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        timm_config(name, (32, 32))


def test_what_does_not_fit_the_configuration_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiple, not"):
        timm_config(DINOV2, (32, 32))
    with pytest.raises(ConfigurationError, match="64 channels; configured are 16 px and 65"):
        TimmEncoder(plain_config().model_copy(update={"embed_dim": 65}))
    encoder = TimmEncoder(plain_config())
    for shape in ((1, 4, 1, 32, 32), (1, 3, 1, 48, 32), (3, 32, 32)):
        with pytest.raises(InvalidInputError, match=r"expected \[B, 3, T, 32, 32\]"):
            encoder(torch.zeros(shape))
    with pytest.raises(InvalidInputError, match="not finite"):
        encoder(torch.full((1, 3, 1, 32, 32), torch.nan))


def test_timm_is_not_imported_with_the_package() -> None:
    code = (
        "import sys, models.world_model, models.encoders, models.readouts\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
