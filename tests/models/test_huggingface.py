"""Folders and hub models that transformers wrote load as the same network."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from models.checkpoint import load_encoder, load_world_model, open_checkpoint
from models.config import MaskPredictorConfig
from models.convert import convert
from models.doctor import examine
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    ModelError,
)
from models.mask_predictor import MaskPredictor
from models.weights import load_strictly

SIZES = {
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 4,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "mlp_ratio": 48 / 11,
    "pred_hidden_size": 24,
    "pred_num_hidden_layers": 2,
    "pred_num_attention_heads": 2,
    "pred_num_mask_tokens": 3,
    "pred_zero_init_mask_tokens": False,
    "num_pooler_layers": 1,
}


@pytest.fixture(scope="module")
def transformers() -> Any:
    """The package, with the operators that a CPU build of torch lacks for its torchvision."""
    pytest.importorskip("transformers")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import transformers
    from transformers.models.vjepa2 import modeling_vjepa2

    return transformers, modeling_vjepa2


@pytest.fixture
def theirs(transformers: Any) -> Any:
    torch.manual_seed(0)
    return transformers[0].VJEPA2Model(transformers[0].VJEPA2Config(**SIZES)).eval()


@pytest.fixture
def folder(theirs: Any, tmp_path: Path) -> Path:
    theirs.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def test_the_encoder_computes_what_transformers_computes(theirs: Any, folder: Path) -> None:
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        expected = theirs.get_vision_features(clip)
        found = load_encoder(folder)(clip.transpose(1, 2))
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_configuration_is_that_of_the_folder(folder: Path) -> None:
    config = load_encoder(folder).config
    assert (config.img_size, config.patch_size, config.num_frames) == ((32, 32), 8, 4)
    assert (config.embed_dim, config.depth, config.num_heads) == (48, 2, 3)
    assert config.rope == "vjepa2"


def test_the_mask_predictor_is_mapped_completely(folder: Path) -> None:
    config = MaskPredictorConfig(
        grid_size=(4, 4),
        embed_dim=48,
        predictor_embed_dim=24,
        depth=2,
        num_heads=2,
        num_mask_tokens=3,
    )
    predictor = MaskPredictor(config)
    load_strictly(predictor, open_checkpoint(folder).network("predictor"), str(folder))
    assert all(bool(token.any()) for token in predictor.mask_tokens)


def test_a_classifier_gives_its_encoder(transformers: Any, tmp_path: Path) -> None:
    model = transformers[0].VJEPA2ForVideoClassification(transformers[0].VJEPA2Config(**SIZES))
    model.save_pretrained(tmp_path)
    clip = torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        expected = model.eval().vjepa2.get_vision_features(clip)
        assert torch.allclose(load_encoder(tmp_path)(clip.transpose(1, 2)), expected, atol=1e-5)
    assert any(name.startswith("pooler.") for name in open_checkpoint(tmp_path).harmless)


def test_several_files_of_weights_are_one_model(theirs: Any, folder: Path, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    whole, sharded = load_encoder(folder), load_encoder(tmp_path / "sharded")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, sharded.state_dict()[name])


def test_a_hub_id_is_fetched_without_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def fetch(hub_id: str, allow_patterns: Any) -> str:
        asked.append((hub_id, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert load_encoder("facebook/vjepa2-tiny-fpc4-32").config.embed_dim == 48
    assert asked == [("facebook/vjepa2-tiny-fpc4-32", ["config.json", "*.safetensors"])]


def test_a_hub_model_that_cannot_be_reached_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(hub_id: str, allow_patterns: Any) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointNotFoundError, match=r"facebook/vjepa2-nothing.*no connection"):
        load_encoder("facebook/vjepa2-nothing")


def test_the_doctor_knows_the_layout(folder: Path) -> None:
    report = examine(folder)
    assert (report.layout, report.is_loadable) == ("huggingface", True)
    assert report.loads_as == "load_encoder: 'encoder'"
    assert report.networks[0].fits == ("its own configuration",)
    assert report.networks[1].kind == "mask predictor"


def test_it_converts_to_the_published_layout(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "vit.pt", "published")
    original, converted = load_encoder(folder), load_encoder(tmp_path / "vit.pt")
    for name, value in original.state_dict().items():
        assert torch.equal(value, converted.state_dict()[name])
    names = torch.load(tmp_path / "vit.pt", weights_only=True)["predictor"]
    assert "module.backbone.mask_tokens.2" in names


def test_a_mistyped_path_is_not_asked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint at models/shiped"):
        load_encoder("models/shiped")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "vit"}, r"type 'vit'; expected 'vjepa2'"),
        ({"hidden_act": "silu"}, r"hidden_act = 'silu'; only 'gelu'"),
        ({"qkv_bias": False}, "qkv_bias = False; only True"),
        ({"num_attention_heads": 5}, "num_heads 5"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(ConfigurationError, match=said):
        load_encoder(folder)


def test_weights_that_do_not_fit_their_configuration_are_listed(folder: Path) -> None:
    edit(folder, num_hidden_layers=3)
    with pytest.raises(CheckpointMismatchError, match=r"blocks\.2\.attn\.qkv\.weight"):
        load_encoder(folder)


def test_a_damaged_or_empty_folder_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpointError):
        load_encoder(folder)
    weights.unlink()
    with pytest.raises(CheckpointNotFoundError, match="safetensors"):
        load_encoder(folder)


def test_there_is_no_world_model_in_it(folder: Path) -> None:
    with pytest.raises(ModelError, match="encoder alone"):
        load_world_model(folder)


@pytest.mark.parametrize("config", [None, "{", "[]", '{"_class_name": "Other"}'])
def test_a_hub_repository_of_another_kind_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(CheckpointNotFoundError, match=r"'facebook/jepa-wms'.*URL of the file"):
        load_encoder("facebook/jepa-wms")


def test_a_description_that_lacks_a_size_is_named(folder: Path) -> None:
    edit(folder, pred_num_hidden_layers="two")
    with pytest.raises(ConfigurationError, match="pred_num_hidden_layers = 'two'"):
        open_checkpoint(folder)
    path = folder / "config.json"
    description = json.loads(path.read_text())
    del description["hidden_size"]
    path.write_text(json.dumps(description))
    with pytest.raises(ConfigurationError, match="hidden_size"):
        open_checkpoint(folder)
