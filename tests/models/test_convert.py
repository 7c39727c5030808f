"""Conversions keep every bit, and give exactly the names that the published code loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.__main__ import main
from models.checkpoint import load_encoder, load_world_model, open_checkpoint, save_world_model
from models.config import (
    EncoderConfig,
    MaskPredictorConfig,
    TimmEncoderConfig,
    WorldModelConfig,
    tiny,
)
from models.convert import convert, refuse_what_published_code_lacks, save_published
from models.encoder import VisionTransformer
from models.errors import ConversionError
from models.identity import blank
from models.mask_predictor import MaskPredictor
from models.model_folder import WEIGHTS_FILE, save_encoder
from models.presets import vjepa2_1_vit_base
from models.world_model import WorldModel


def assert_same(network: nn.Module, other: nn.Module) -> None:
    expected, found = network.state_dict(), other.state_dict()
    assert list(expected) == list(found)
    for name, value in expected.items():
        assert value.dtype == found[name].dtype
        assert torch.equal(value, found[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_there_and_back_is_exact_to_the_bit(
    tiny_model: WorldModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    model = tiny_model.to(dtype)
    save_world_model(model, tmp_path / "ours", metadata={"epoch": 7, "note": "kept"})
    convert(tmp_path / "ours", tmp_path / "ac.pt", "published")
    convert(tmp_path / "ac.pt", tmp_path / "back", "ours")
    loaded = load_world_model(tmp_path / "back", dtype=dtype)
    assert_same(loaded, model)
    assert loaded.config == model.config
    assert open_checkpoint(tmp_path / "back").metadata["epoch"] == 7


@pytest.mark.parametrize("wide", ["encoder", "predictor"])
def test_weights_of_several_types_are_kept_in_the_widest(
    tiny_model: WorldModel, tmp_path: Path, wide: str
) -> None:
    save_published(tiny_model, tmp_path / "ac.pt")
    checkpoint = torch.load(tmp_path / "ac.pt", weights_only=True)
    for key in {"encoder", "target_encoder", "predictor"} - {wide}:
        checkpoint[key] = {name: value.half() for name, value in checkpoint[key].items()}
    torch.save(checkpoint, tmp_path / "mixed.pt")
    convert(tmp_path / "mixed.pt", tmp_path / "ours", "ours")
    stored = load_file(tmp_path / "ours" / WEIGHTS_FILE)
    assert {weight.dtype for weight in stored.values()} == {torch.float32}


def expected_names(config: WorldModelConfig) -> tuple[set[str], set[str]]:
    """Write out the names of the published files, from their description."""

    def layers(*names: str) -> set[str]:
        return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}

    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    encoder = layers("patch_embed.proj", "norm")
    for block in range(config.encoder.depth if isinstance(config.encoder, EncoderConfig) else 0):
        encoder |= layers(*(f"blocks.{block}.{part}" for part in parts))
    predictor = layers("predictor_embed", "action_encoder", "state_encoder", "extrinsics_encoder")
    predictor |= layers("predictor_norm", "predictor_proj")
    for block in range(config.predictor.depth):
        predictor |= layers(*(f"predictor_blocks.{block}.{part}" for part in parts))
    return {f"module.backbone.{n}" for n in encoder}, {f"module.{n}" for n in predictor}


def test_the_published_layout_has_exactly_the_reference_names_and_shapes(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_published(tiny_model, tmp_path / "ac.pt", {"epoch": 315, "name": "left out"})
    checkpoint: dict[str, Any] = torch.load(tmp_path / "ac.pt", weights_only=True)
    assert set(checkpoint) == {"encoder", "target_encoder", "predictor", "epoch", "config"}
    encoder, predictor = expected_names(tiny())
    assert set(checkpoint["encoder"]) == set(checkpoint["target_encoder"]) == encoder
    assert set(checkpoint["predictor"]) == predictor
    assert checkpoint["epoch"] == 315
    # What the reference does before it loads with strict=True:
    for key, network in (("encoder", tiny_model.encoder), ("predictor", tiny_model.predictor)):
        plain = {
            name.replace("module.", "").replace("backbone.", ""): value
            for name, value in checkpoint[key].items()
        }
        network.load_state_dict(plain, strict=True)


def test_a_shared_encoder_is_stored_once(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_published(tiny_model, tmp_path / "ac.pt")
    stored = sum(value.numel() * 4 for value in tiny_model.state_dict().values())
    assert (tmp_path / "ac.pt").stat().st_size < 1.5 * stored


def test_a_pretrained_encoder_takes_its_mask_predictor_along(tmp_path: Path) -> None:
    config = tiny().encoder
    assert isinstance(config, EncoderConfig)
    encoder = VisionTransformer(config)
    masked = MaskPredictor(
        MaskPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2
        )
    )
    save_published(encoder, tmp_path / "vit.pt", {"epoch": 9}, masked.state_dict())
    convert(tmp_path / "vit.pt", tmp_path / "ours", "ours")
    convert(tmp_path / "ours", tmp_path / "again.pt", "published")
    assert_same(load_encoder(tmp_path / "ours"), encoder)
    assert_same(load_encoder(tmp_path / "again.pt"), encoder)
    checkpoint = torch.load(tmp_path / "again.pt", weights_only=True)
    for name, value in masked.state_dict().items():
        assert torch.equal(checkpoint["predictor"][f"module.backbone.{name}"], value)


def test_the_second_generation_keeps_its_flavour(tmp_path: Path) -> None:
    small = {"img_size": (32, 32), "embed_dim": 48, "depth": 4, "num_heads": 3}
    config = vjepa2_1_vit_base().model_copy(update={**small, "norm_layers": (1, 3)})
    encoder = VisionTransformer(config)
    save_encoder(encoder, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "vit.pt", "published")
    loaded = load_encoder(tmp_path / "vit.pt")
    assert loaded.config.rope == "vjepa2_1"
    assert_same(loaded, encoder)


def changed(part: str, **changes: Any) -> WorldModelConfig:
    config = tiny()
    return config.model_copy(
        update={part: getattr(config, part).model_copy(update=changes)},
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("predictor", residual=True), r"predictor\.residual"),
        (changed("predictor", use_state=False), r"predictor\.use_state False"),
        (changed("predictor", rope="vjepa2_1"), r"predictor\.rope 'vjepa2_1'"),
        (changed("encoder", rope=None), r"encoder\.rope None"),
        (changed("encoder", attention="factorised"), r"'factorised' \(only 'joint'"),
    ],
)
def test_options_that_the_published_code_lacks_are_refused_with_the_reason(
    config: WorldModelConfig, said: str
) -> None:
    with pytest.raises(ConversionError, match=said):
        refuse_what_published_code_lacks(config)


def test_encoders_of_timm_have_no_published_layout() -> None:
    encoder = TimmEncoderConfig(img_size=(32, 32), embed_dim=48, timm_model="vit_tiny_patch16_224")
    config = tiny().model_copy(update={"encoder": encoder})
    with pytest.raises(ConversionError, match="vit_tiny_patch16_224"):
        refuse_what_published_code_lacks(config)


def test_a_refused_conversion_writes_nothing(tmp_path: Path, capsys: Any) -> None:
    save_world_model(WorldModel(changed("predictor", residual=True)), tmp_path / "ours")
    arguments = ["convert", str(tmp_path / "ours"), str(tmp_path / "ac.pt"), "--to", "published"]
    assert main(arguments) == 2
    assert "residual" in capsys.readouterr().err
    assert not (tmp_path / "ac.pt").exists()


def test_the_command_converts(tiny_model: WorldModel, tmp_path: Path, capsys: Any) -> None:
    save_world_model(tiny_model, tmp_path / "ours")
    target = tmp_path / "new" / "ac.pt"
    assert main(["convert", str(tmp_path / "ours"), str(target), "--to", "published"]) == 0
    assert "WorldModel" in capsys.readouterr().out
    assert_same(load_world_model(target), tiny_model)


def test_full_size_networks_are_within_what_the_published_code_has() -> None:
    assert isinstance(blank(vjepa2_1_vit_base()), VisionTransformer)
    refuse_what_published_code_lacks(vjepa2_1_vit_base())
