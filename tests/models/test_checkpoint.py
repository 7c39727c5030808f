"""Checkpoints load completely or not at all, and never run code."""

import json
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    load_encoder,
    load_published,
    load_world_model,
    published_state,
    read_published,
    save_world_model,
)
from models.config import TimmEncoderConfig, WorldModelConfig, tiny
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    ModelError,
)
from models.model_card import CARD_FILE
from models.world_model import WorldModel


def published_layout(model: WorldModel) -> dict[str, Any]:
    """A model's weights under the names of the published files."""
    encoder = {f"module.backbone.{k}": v for k, v in model.encoder.state_dict().items()}
    predictor = {f"module.{k}": v for k, v in model.predictor.state_dict().items()}
    return {"encoder": encoder, "predictor": predictor, "epoch": 3, "lr": 1e-4}


def write_published(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def assert_same_weights(model: WorldModel, other: WorldModel) -> None:
    expected, found = model.state_dict(), other.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


# The published layout ---------------------------------------------------------------------------


def test_the_published_layout_is_read(tiny_model: WorldModel, tmp_path: Path) -> None:
    path = write_published(tmp_path / "ac.pt", published_layout(tiny_model))
    assert_same_weights(load_published(path, tiny()), tiny_model)


def test_a_loaded_model_is_frozen_and_stands_alone(tiny_model: WorldModel, tmp_path: Path) -> None:
    path = write_published(tmp_path / "ac.pt", published_layout(tiny_model))
    model = load_published(path, tiny())
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_same_weights(model, tiny_model)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_unused_position_tables_of_older_files_are_passed_over(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    checkpoint = published_layout(tiny_model)
    checkpoint["encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 4, 4)
    checkpoint["predictor"]["module.predictor_pos_embed"] = torch.zeros(1, 4, 4)
    path = write_published(tmp_path / "ac.pt", checkpoint)
    assert_same_weights(load_published(path, tiny()), tiny_model)


def test_the_averaged_encoder_can_be_read_by_its_key(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    checkpoint = {"target_encoder": published_layout(tiny_model)["encoder"]}
    path = write_published(tmp_path / "vit.pt", checkpoint)
    state = published_state(read_published(path), "target_encoder", path)
    assert list(state) == list(tiny_model.encoder.state_dict())


def test_every_key_that_does_not_fit_is_listed(tiny_model: WorldModel, tmp_path: Path) -> None:
    checkpoint = published_layout(tiny_model)
    predictor = checkpoint["predictor"]
    predictor["module.surplus"] = torch.zeros(1)
    del predictor["module.action_encoder.weight"], predictor["module.predictor_norm.bias"]
    predictor["module.state_encoder.bias"] = torch.zeros(5)
    path = write_published(tmp_path / "ac.pt", checkpoint)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(path, tiny())
    assert caught.value.missing == ("action_encoder.weight", "predictor_norm.bias")
    assert caught.value.unexpected == ("surplus",)
    assert caught.value.misshaped == ("state_encoder.bias: found [5], expected [32]",)
    for name in ("action_encoder.weight", "predictor_norm.bias", "surplus", "state_encoder.bias"):
        assert name in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="download"):
        load_world_model(tmp_path / "nowhere.pt")


def test_a_truncated_file_is_refused(tiny_model: WorldModel, tmp_path: Path) -> None:
    path = write_published(tmp_path / "ac.pt", published_layout(tiny_model))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptCheckpointError, match="download it again"):
        load_published(path, tiny())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 neither"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ac.pt"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError):
        load_published(path, tiny())


_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
DAMAGED_PICKLES = {
    "no value": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "no item": b"\x80\x02}s.",
    "wrong count of arguments": b"\x80\x02" + _TENSOR + b"K\x01\x85R.",
    "no storage": b"\x80\x02K\x01Q.",
    "no text": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "half a number": b"\x80\x02J\x01.",
    "unknown operation": b"\x80\x02\xf0.",
}


@pytest.mark.parametrize("kind", DAMAGED_PICKLES)
def test_a_whole_archive_with_a_damaged_table_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_published(tmp_path / "whole.pt", {"encoder": {"x": torch.zeros(1)}})
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "ac.pt", "w") as damaged:
        for name in whole.namelist():
            content = DAMAGED_PICKLES[kind] if name.endswith("data.pkl") else whole.read(name)
            damaged.writestr(name, content)
    with pytest.raises(CorruptCheckpointError, match=r"ac\.pt is no complete checkpoint"):
        read_published(tmp_path / "ac.pt")


class _Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_code_in_a_checkpoint_is_never_run(tiny_model: WorldModel, tmp_path: Path) -> None:
    victim = tmp_path / "owned"
    checkpoint = {**published_layout(tiny_model), "opt": _Payload(victim)}
    zipped = write_published(tmp_path / "zipped.pt", checkpoint)
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps(_Payload(victim)))
    for path in (zipped, bare):
        with pytest.raises(CorruptCheckpointError):
            load_published(path, tiny())
    assert not victim.exists()


@pytest.mark.parametrize(
    "checkpoint", [torch.zeros(3), {}, {"encoder": {"x": 1}}, {"encoder": torch.zeros(2)}]
)
def test_a_file_without_the_networks_is_refused(tmp_path: Path, checkpoint: Any) -> None:
    path = write_published(tmp_path / "ac.pt", checkpoint)
    with pytest.raises(CorruptCheckpointError):
        load_published(path, tiny())


# Our own folders --------------------------------------------------------------------------------


def test_saving_and_loading_is_exact_to_the_bit(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path / "model", metadata={"seed": 3})
    loaded = load_world_model(tmp_path / "model")
    assert_same_weights(loaded, tiny_model)
    assert loaded.config == tiny_model.config
    assert not any(weight.requires_grad for weight in loaded.parameters())
    description = json.loads((tmp_path / "model" / CONFIG_FILE).read_text())
    assert description["metadata"] == {"seed": 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_may_be_stored_in_half_precision(
    tiny_model: WorldModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    save_world_model(tiny_model, tmp_path, dtype=dtype)
    stored = load_file(tmp_path / WEIGHTS_FILE)
    assert {weight.dtype for weight in stored.values()} == {dtype}
    loaded = load_world_model(tmp_path)
    for name, weight in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.to(dtype).float())
    half = load_world_model(tmp_path, dtype=dtype)
    assert {weight.dtype for weight in half.parameters()} == {dtype}


def test_saving_again_replaces_the_model_and_leaves_nothing_else(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path)
    tiny_model.predictor.predictor_norm.bias.fill_(2.0)
    save_world_model(tiny_model, tmp_path)
    assert_same_weights(load_world_model(tmp_path), tiny_model)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE}


def test_a_failed_save_leaves_the_older_model(
    tiny_model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_world_model(tiny_model, tmp_path)

    def fail_half_way(_weights: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("models.model_folder.save_file", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        save_world_model(tiny_model, tmp_path)
    assert_same_weights(load_world_model(tmp_path), tiny_model)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE}


def test_other_users_can_read_a_saved_model(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & stat.S_IROTH


def test_a_model_card_tells_what_the_weights_expect(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path, metadata={"episodes": 1234})
    card = (tmp_path / CARD_FILE).read_text()
    for said in ("tiny", "32 x 32 px", "vjepa2", "centre_square", "1.0 s per action", "1234"):
        assert said in card
    save_world_model(tiny_model, tmp_path, metadata={"episodes": 99})
    assert "1234" not in (tmp_path / CARD_FILE).read_text()


def test_a_model_card_that_someone_wrote_is_kept(tiny_model: WorldModel, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text("# Mine\n")
    save_world_model(tiny_model, tmp_path)
    assert (tmp_path / CARD_FILE).read_text() == "# Mine\n"


def test_a_frozen_image_encoder_is_part_of_the_model(tmp_path: Path) -> None:
    encoder = TimmEncoderConfig(
        img_size=(32, 32), patch_size=16, embed_dim=192, timm_model="vit_tiny_patch16_224"
    )
    predictor = tiny().predictor.model_copy(update={"grid_size": (2, 2), "embed_dim": 192})
    config = tiny().model_copy(update={"encoder": encoder, "predictor": predictor})
    model = WorldModel(config).eval()
    save_world_model(model, tmp_path)
    loaded = load_world_model(tmp_path)
    assert_same_weights(loaded, model)
    frames = torch.randint(0, 256, (1, 40, 40, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(loaded.encode(frames), model.encode(frames))
    with pytest.raises(ConfigurationError, match="timm's vit_tiny"):
        load_encoder(tmp_path)


def test_a_published_file_holds_no_encoder_of_timm(tiny_model: WorldModel, tmp_path: Path) -> None:
    path = write_published(tmp_path / "ac.pt", published_layout(tiny_model))
    encoder = TimmEncoderConfig(
        img_size=(32, 32), patch_size=8, embed_dim=48, timm_model="test_vit"
    )
    with pytest.raises(ConfigurationError, match=r"those hold no timm encoder \(test_vit\)"):
        load_world_model(path, config=tiny().model_copy(update={"encoder": encoder}))


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / CONFIG_FILE
    description = json.loads(path.read_text())
    description["world_model"].update(changes)
    path.write_text(json.dumps(description))


def test_an_unknown_key_in_the_configuration_is_refused(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path)
    edit_config(tmp_path, max_steps_m=0.1)
    with pytest.raises(ConfigurationError, match="max_steps_m"):
        load_world_model(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format_version": 99}', '{"format_version": 1}']
)
def test_a_configuration_that_is_none_is_refused(
    tiny_model: WorldModel, tmp_path: Path, content: str
) -> None:
    save_world_model(tiny_model, tmp_path)
    (tmp_path / CONFIG_FILE).write_text(content)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        load_world_model(tmp_path)


def test_an_origin_that_is_none_is_refused(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "metadata": None}))
    with pytest.raises(ConfigurationError, match="metadata None; expected"):
        load_world_model(tmp_path)


def test_a_format_from_the_future_is_named(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path)
    (tmp_path / CONFIG_FILE).write_text('{"format_version": 99}')
    with pytest.raises(ConfigurationError, match="format 99"):
        load_world_model(tmp_path)


def test_weights_of_another_configuration_are_refused(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path)
    deeper = tiny().model_dump(mode="json")["encoder"]
    edit_config(tmp_path, encoder={**deeper, "depth": 3})
    with pytest.raises(CheckpointMismatchError, match=r"encoder\.blocks\.2\.norm1"):
        load_world_model(tmp_path)


def test_truncated_weights_are_refused(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpointError, match="not readable"):
        load_world_model(tmp_path)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_an_incomplete_folder_is_refused(tiny_model: WorldModel, tmp_path: Path, name: str) -> None:
    save_world_model(tiny_model, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointNotFoundError, match=name):
        load_world_model(tmp_path)


def test_a_folder_takes_no_other_configuration(tiny_model: WorldModel, tmp_path: Path) -> None:
    save_world_model(tiny_model, tmp_path)
    with pytest.raises(ConfigurationError, match="brings its own"):
        load_world_model(tmp_path, config=tiny())


def test_all_errors_have_one_base() -> None:
    kinds = (CheckpointMismatchError, CheckpointNotFoundError, ConfigurationError)
    assert all(issubclass(kind, ModelError) for kind in kinds)


def test_the_reference_checkpoint_needs_its_own_configuration(
    golden_dir: Path, golden_config: WorldModelConfig
) -> None:
    path = golden_dir / "ac_checkpoint.pt"
    assert load_published(path, golden_config).tokens_per_frame == 16
    with pytest.raises(CheckpointMismatchError, match="missing"):
        load_world_model(path)
