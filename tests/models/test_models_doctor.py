"""The doctor says what a checkpoint is and what would be loaded, and its exit status can be trusted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.__main__ import main
from models.checkpoint import save_encoder, save_world_model
from models.config import MaskPredictorConfig, TimmEncoderConfig, tiny, vit_large
from models.convert import save_published
from models.doctor import NetworkReport, Report, examine
from models.encoder import VisionTransformer
from models.identity import blank, encoder_presets, world_model_presets
from models.mask_predictor import MaskPredictor
from models.world_model import WorldModel


def thin(network: nn.Module, prefix: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The shapes of a large network in next to no room: one stored number, repeated."""
    return {
        f"{prefix}{name}": torch.full((1,), 0.5, dtype=dtype).expand(value.shape)
        for name, value in network.state_dict().items()
    }


def write(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def network(report: Report, key: str) -> NetworkReport:
    return next(found for found in report.networks if found.key == key)


def test_a_pretraining_file_is_told_completely(tmp_path: Path) -> None:
    large = thin(blank(vit_large()), "module.backbone.")
    masked = blank(MaskPredictorConfig(grid_size=(16, 16), embed_dim=1024))
    path = write(
        tmp_path / "vitl.pt",
        {
            "encoder": {**large, "module.backbone.pos_embed": torch.zeros(1)},
            "target_encoder": thin(blank(vit_large()), "module.backbone.", torch.bfloat16),
            "predictor": thin(masked, "module.backbone."),
            "epoch": 239,
            "lr": 1e-4,
        },
    )
    report = examine(path)
    assert report.is_loadable
    assert report.layout == "published"
    assert report.loads_as == "load_encoder: 'target_encoder'"
    assert report.facts["training step"] == "epoch 239, lr 0.0001"
    assert report.facts["left out as harmless"] == "encoder.module.backbone.pos_embed"
    target = network(report, "target_encoder")
    assert target.fits == ("vit_large",)
    assert target.facts == {
        "parameters": "303,885,312",
        "type": "bfloat16",
        "key prefix": "'module.backbone.'",
        "blocks": "24",
        "width": "1024",
        "patch": "16 x 16 px, 2 frames",
        "RoPE flavour": "vjepa2 (by the key names)",
        "resolution": "256 x 256 px",
        "tokens per frame": "256",
    }
    predictor = network(report, "predictor")
    assert predictor.kind == "mask predictor"
    assert "mask predictor of vit_large" in predictor.fits


def test_every_configuration_that_fits_is_named(tmp_path: Path) -> None:
    state = thin(blank(encoder_presets()["vit_giant"]), "module.")
    report = examine(write(tmp_path / "vitg.pt", {"target_encoder": state}))
    found = network(report, "target_encoder")
    assert found.fits == ("vit_giant", "vit_giant_384")
    assert found.facts["resolution"] == "256 x 256 px or 384 x 384 px"
    assert found.facts["tokens per frame"] == "256 or 576"


def test_the_second_generation_shows_its_flavour(tmp_path: Path) -> None:
    state = thin(blank(encoder_presets()["vjepa2_1_vit_large_384"]), "module.backbone.")
    report = examine(write(tmp_path / "vitl.pt", {"ema_encoder": state}))
    found = network(report, "ema_encoder")
    assert found.fits == ("vjepa2_1_vit_large_384",)
    assert found.facts["RoPE flavour"] == "vjepa2_1 (by the key names)"


@pytest.mark.parametrize("name", list(world_model_presets()))
def test_published_world_models_are_named(tmp_path: Path, name: str) -> None:
    config = world_model_presets()[name]
    predictor = thin(blank(config.predictor), "module.")
    report = examine(write(tmp_path / "ac.pt", {"predictor": predictor}))
    found = network(report, "predictor")
    assert found.fits == (name,)
    tokens = "2 = 258" if config.predictor.use_state else "1 = 257"
    assert found.facts["tokens per frame"] == f"256 patches + {tokens}"
    assert report.is_loadable
    assert "encoder=<source" in report.loads_as


def test_our_own_formats_fit_their_own_configuration(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path / "ours", metadata={"step": 1000})
    save_published(tiny_model, tmp_path / "ac.pt")
    assert isinstance(tiny_model.encoder, VisionTransformer)
    save_encoder(tiny_model.encoder, tmp_path / "encoder")
    for name in ("ours", "ac.pt", "encoder"):
        report = examine(tmp_path / name)
        assert report.is_loadable
        assert all(found.fits == ("its own configuration",) for found in report.networks)
        assert network(report, "encoder").facts["RoPE flavour"] == "vjepa2 (stored)"
    report = examine(tmp_path / "ours")
    assert report.facts["tokens per frame"] == "16 patches + 2 = 18"
    assert report.facts["frame geometry"] == "centre_square"
    assert report.facts["training step"] == "step 1000"
    assert "world model" in report.loads_as


def test_what_is_missing_or_too_much_is_listed(tmp_path: Path) -> None:
    state = thin(blank(vit_large()), "module.backbone.")
    del state["module.backbone.norm.bias"]
    state["module.backbone.head.weight"] = torch.zeros(1)
    report = examine(write(tmp_path / "vitl.pt", {"encoder": state}))
    found = network(report, "encoder")
    assert not report.is_loadable
    assert found.nearest == "vit_large"
    assert found.difference.missing == ("norm.bias",)
    assert found.difference.unexpected == ("head.weight",)


def test_a_world_model_with_a_broken_half_says_which(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_published(tiny_model, tmp_path / "ac.pt")
    checkpoint = torch.load(tmp_path / "ac.pt", weights_only=True)
    del checkpoint["predictor"]["module.predictor_norm.bias"]
    report = examine(write(tmp_path / "half.pt", checkpoint))
    assert "its predictor fits no known configuration; load_encoder" in report.loads_as
    for key in ("encoder", "target_encoder"):
        del checkpoint[key]["module.backbone.norm.bias"]
    assert not examine(write(tmp_path / "none.pt", checkpoint)).is_loadable
    checkpoint["predictor"] = {
        f"module.{name}": value for name, value in tiny_model.predictor.state_dict().items()
    }
    report = examine(write(tmp_path / "blind.pt", checkpoint))
    assert not report.is_loadable
    assert report.loads_as == "no world model: its encoder fits no known configuration"


def test_a_world_model_with_an_encoder_of_timm_is_told(tmp_path: Path) -> None:
    encoder = TimmEncoderConfig(timm_model="test_vit", img_size=(32, 32), embed_dim=64)
    predictor = tiny().predictor.model_copy(update={"grid_size": (2, 2), "embed_dim": 64})
    config = tiny().model_copy(update={"encoder": encoder, "predictor": predictor})
    save_world_model(WorldModel(config), tmp_path)
    report = examine(tmp_path)
    assert report.is_loadable
    assert "world model for planning" in report.loads_as
    assert network(report, "encoder").kind == "encoder of timm (test_vit)"
    assert report.facts["resolution"] == "32 x 32 px"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("encoder", "blocks.0.norm1.weight"),
        ("encoder", "patch_embed.proj.weight"),
        ("predictor", "action_encoder.weight"),
        ("predictor", "predictor_blocks"),
    ],
)
def test_tensors_of_an_unheard_of_shape_are_examined_like_others(
    tmp_path: Path, key: str, name: str
) -> None:
    report = examine(write(tmp_path / "odd.pt", {key: {name: torch.tensor(1.0)}}))
    assert not report.is_loadable
    assert network(report, key).facts["parameters"] == "1"


# The command ------------------------------------------------------------------------------------


def test_the_command_prints_a_table(tiny_model: WorldModel, tmp_path: Path, capsys: Any) -> None:
    save_world_model(tiny_model, tmp_path / "ours")
    assert main(["doctor", str(tmp_path / "ours")]) == 0
    printed = capsys.readouterr().out
    for said in ("RoPE flavour", "tokens per frame", "its own configuration", "would be loaded"):
        assert said in printed


def test_the_command_fails_where_nothing_fits(tmp_path: Path, capsys: Any) -> None:
    predictor = MaskPredictor(
        MaskPredictorConfig(grid_size=(4, 4), embed_dim=48, depth=1, num_heads=2)
    )
    config = tiny().encoder
    encoder = VisionTransformer(config) if not hasattr(config, "timm_model") else None
    assert encoder is not None
    checkpoint = {"encoder": encoder.state_dict(), "predictor": predictor.state_dict()}
    path = write(tmp_path / "vit.pt", checkpoint)
    assert main(["doctor", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "no known configuration" in printed
    assert "missing" in printed


@pytest.mark.parametrize("kind", ["missing", "truncated", "pickled", "no networks"])
def test_the_command_fails_otherwise_where_the_file_cannot_be_read(
    tmp_path: Path, capsys: Any, kind: str
) -> None:
    path = tmp_path / "vit.pt"
    if kind == "truncated":
        write(path, {"encoder": {"x": torch.zeros(1000)}})
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "pickled":
        write(path, {"encoder": {}, "args": Path()})
    elif kind == "no networks":
        write(path, {"weights": {"x": torch.zeros(1)}})
    assert main(["doctor", str(path)]) == 2
    captured = capsys.readouterr()
    assert str(path) in captured.err
    assert not captured.out


def test_without_the_training_extra_the_command_says_what_to_install() -> None:
    program = (
        "import runpy, sys; sys.modules['torch'] = None; "
        "runpy.run_module('models', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'vjepa-planner[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_teaches(capsys: Any) -> None:
    for command in ("doctor", "convert"):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        printed = capsys.readouterr().out
        assert "facebook/vjepa2-vitl-fpc64-256" in printed
        assert "example" in printed
