"""The way that the networks are compared with is the published one, and the tables are complete."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import models as benchmark
from benchmarks import reference_path, weights
from models.config import EncoderConfig, tiny
from models.encoder import VisionTransformer
from models.world_model import WorldModel, normalise


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny()).eval()


def test_the_plain_encoder_computes_the_same(model: WorldModel) -> None:
    assert isinstance(model.encoder, VisionTransformer)
    pixels, clip = torch.randn(2, 3, 32, 32), torch.randn(1, 3, 4, 32, 48)
    with torch.inference_mode():
        assert torch.allclose(
            reference_path.encode(model.encoder, clip), model.encoder(clip), atol=1e-5
        )
        tokens = normalise(model.encoder(pixels.unsqueeze(2).expand(-1, -1, 2, -1, -1)))
        assert torch.allclose(
            reference_path.encode_frames(model.encoder, pixels), tokens, atol=1e-5
        )


@pytest.mark.parametrize("frames", [1, 3])
def test_the_plain_predictor_computes_the_same(model: WorldModel, frames: int) -> None:
    torch.nn.init.normal_(model.predictor.predictor_proj.weight)
    tokens = torch.randn(2, frames * 16, 48)
    actions, states = torch.randn(2, frames, 7), torch.randn(2, frames, 7)
    with torch.inference_mode():
        expected = model.step(tokens, actions, states)
        found = reference_path.predict(model.predictor, tokens, actions, states)
    assert torch.allclose(found, expected, atol=1e-4)


def test_every_way_of_loading_gives_the_averaged_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(embed_dim=1024, depth=1, num_heads=16)
    monkeypatch.setattr(weights, "vit_large", lambda: config)
    weights.write_file(tmp_path / "vit.pt", config)
    plainly = weights.load_plainly(tmp_path / "vit.pt").state_dict()
    checkpoint = torch.load(tmp_path / "vit.pt", weights_only=True)
    for name, value in checkpoint["target_encoder"].items():
        assert torch.equal(plainly[name.removeprefix("module.backbone.")], value)


def test_the_command_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(benchmark, "small_world_model", tiny)
    monkeypatch.setattr(benchmark, "_TIME_S", 0.01)
    output = tmp_path / "results" / "models.json"
    assert benchmark.main(["--quick", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    document = json.loads(output.read_text())
    assert {"command", "hardware", "versions", "rows"} <= set(document)
    assert len(document["rows"]) == 12
    for row in document["rows"]:
        assert row["work"] in printed
        assert row["difference"] < (0.5 if row["way"].endswith("bfloat16") else 1e-4)
