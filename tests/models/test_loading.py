"""Every layout of a published file loads as the network it holds, or is refused with the reason."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.ac_predictor import ACPredictor
from models.checkpoint import (
    load_encoder,
    load_world_model,
    open_checkpoint,
    save_encoder,
    save_world_model,
)
from models.config import EncoderConfig, MaskPredictorConfig, WorldModelConfig, tiny, vit_large
from models.convert import convert, save_published
from models.encoder import VisionTransformer
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigurationError,
    ConversionError,
    CorruptCheckpointError,
    RopeMismatchError,
    UnsafeCheckpointError,
)
from models.identity import blank, encoder_presets, world_model_presets
from models.mask_predictor import MaskPredictor
from models.weights import cast, compare, fit_unused_layer, load_strictly, on_meta
from models.world_model import WorldModel


@pytest.fixture
def encoder_config() -> EncoderConfig:
    config = tiny().encoder
    assert isinstance(config, EncoderConfig)
    return config


@pytest.fixture
def encoder(encoder_config: EncoderConfig) -> VisionTransformer:
    torch.manual_seed(1)
    return VisionTransformer(encoder_config).eval()


def wrapped(network: nn.Module, prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in network.state_dict().items()}


def write(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def assert_same(network: nn.Module, other: nn.Module) -> None:
    expected, found = network.state_dict(), other.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def thin_file(path: Path, networks: dict[str, tuple[nn.Module, str]]) -> Path:
    """Write a file with the shapes of large networks that takes next to no room.

    Every tensor is one stored number, repeated; a file of a real network is read the same way.
    """
    checkpoint = {
        key: {
            f"{prefix}{name}": torch.full((1,), 0.5).expand(value.shape)
            for name, value in network.state_dict().items()
        }
        for key, (network, prefix) in networks.items()
    }
    return write(path, checkpoint)


# Layouts of the encoder -------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["encoder", "target_encoder", "ema_encoder"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_an_encoder_loads_from_every_key_and_prefix(
    encoder: VisionTransformer,
    encoder_config: EncoderConfig,
    tmp_path: Path,
    key: str,
    prefix: str,
) -> None:
    path = write(tmp_path / "vit.pt", {key: wrapped(encoder, prefix), "epoch": 3})
    assert_same(load_encoder(path, config=encoder_config), encoder)
    assert open_checkpoint(path).prefixes[key] == prefix


def test_averaged_weights_come_before_online_ones(
    encoder: VisionTransformer, encoder_config: EncoderConfig, tmp_path: Path
) -> None:
    online = VisionTransformer(encoder_config)
    checkpoint = {"encoder": wrapped(online, ""), "target_encoder": wrapped(encoder, "")}
    path = write(tmp_path / "vit.pt", checkpoint)
    assert_same(load_encoder(path, config=encoder_config), encoder)
    assert_same(load_encoder(path, config=encoder_config, key="encoder"), online)


def test_a_key_that_is_not_there_is_named_with_those_that_are(
    encoder: VisionTransformer, encoder_config: EncoderConfig, tmp_path: Path
) -> None:
    path = write(tmp_path / "vit.pt", {"encoder": wrapped(encoder, "")})
    with pytest.raises(CorruptCheckpointError, match=r"no network 'ema_encoder'.*'encoder'"):
        load_encoder(path, config=encoder_config, key="ema_encoder")


def test_the_encoder_of_a_world_model_loads_from_every_format(
    tiny_model: WorldModel, encoder_config: EncoderConfig, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path / "ours")
    assert_same(load_encoder(tmp_path / "ours"), tiny_model.encoder)


def test_an_encoder_folder_is_exact_to_the_bit(encoder: VisionTransformer, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path, metadata={"epoch": 5})
    loaded = load_encoder(tmp_path)
    assert_same(loaded, encoder)
    assert loaded.config == encoder.config
    assert not any(weight.requires_grad for weight in loaded.parameters())
    with pytest.raises(ConfigurationError, match="encoder alone"):
        load_world_model(tmp_path)


def test_the_type_is_chosen_when_loading(
    encoder: VisionTransformer, encoder_config: EncoderConfig, tmp_path: Path
) -> None:
    path = write(tmp_path / "vit.pt", {"encoder": wrapped(encoder, "module.")})
    half = load_encoder(path, dtype=torch.bfloat16, config=encoder_config)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    on_meta = load_encoder(path, device="meta", config=encoder_config)
    assert all(weight.is_meta for weight in on_meta.parameters())


# Published networks are recognised --------------------------------------------------------------


PUBLISHED = [name for name in encoder_presets() if not name.endswith(("tiny", "small", "vit_base"))]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_encoders_are_recognised_by_their_shapes(tmp_path: Path, name: str) -> None:
    config = encoder_presets()[name]
    file_name = "vitg-384.pt" if name.endswith("384") else "renamed.pt"
    networks = {"target_encoder": (blank(config), "module.backbone.")}
    path = thin_file(tmp_path / file_name, networks)
    assert load_encoder(path, device="meta").config == config


@pytest.mark.parametrize("name", list(world_model_presets()))
def test_published_world_models_are_recognised_by_their_shapes(tmp_path: Path, name: str) -> None:
    config = world_model_presets()[name]
    assert isinstance(config.encoder, EncoderConfig)
    networks = {
        "encoder": (blank(config.encoder), "module.backbone."),
        "predictor": (blank(config.predictor), "module."),
    }
    path = thin_file(tmp_path / "renamed.pt", networks)
    assert load_world_model(path, device="meta").config == config


def test_a_key_too_few_of_a_published_network_is_named(tmp_path: Path) -> None:
    path = thin_file(tmp_path / "vitl.pt", {"encoder": (blank(vit_large()), "module.backbone.")})
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["encoder"]["module.backbone.blocks.7.attn.proj.bias"]
    with pytest.raises(CheckpointMismatchError) as caught:
        load_encoder(write(path, checkpoint), device="meta")
    assert caught.value.missing == ("blocks.7.attn.proj.bias",)
    assert not caught.value.unexpected


@pytest.mark.slow
def test_a_full_size_vit_large_file_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VisionTransformer(vit_large())
    checkpoint = {"target_encoder": wrapped(network, "module.backbone."), "epoch": 239}
    path = write(tmp_path / "vitl.pt", checkpoint)
    assert path.stat().st_size > 1.2e9
    assert_same(load_encoder(path), network)


# Files of jepa-wms ------------------------------------------------------------------------------


@pytest.fixture
def stateless_config() -> WorldModelConfig:
    config = tiny()
    predictor = config.predictor.model_copy(update={"use_state": False})
    return config.model_copy(update={"predictor": predictor})


def test_a_predictor_alone_takes_its_encoder_from_elsewhere(
    stateless_config: WorldModelConfig, tmp_path: Path
) -> None:
    model = WorldModel(stateless_config)
    state = wrapped(model.predictor, "module.")
    state["module.extrinsics_encoder.bias"] = torch.zeros(32)  # of no use without a camera
    path = write(tmp_path / "fixed.pth.tar", {"predictor": state, "epoch": 64})
    assert isinstance(model.encoder, VisionTransformer)
    save_encoder(model.encoder, tmp_path / "encoder")
    loaded = load_world_model(path, config=stateless_config, encoder=tmp_path / "encoder")
    assert_same(loaded.predictor, model.predictor)
    assert_same(loaded.encoder, model.encoder)
    frames = torch.randint(0, 255, (1, 40, 40, 3), dtype=torch.uint8)
    tokens, action, state_now = model.encode(frames), torch.ones(1, 1, 7), torch.zeros(1, 1, 7)
    expected = model.step(tokens, action, state_now)
    assert torch.equal(loaded.step(tokens, action, state_now), expected)
    with pytest.raises(CorruptCheckpointError, match="no encoder"):
        load_world_model(path, config=stateless_config)


def test_the_layer_that_embeds_the_state_has_a_second_name(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    state = {
        name.replace("state_encoder", "proprio_encoder"): value
        for name, value in tiny_model.predictor.state_dict().items()
    }
    checkpoint = {"encoder": tiny_model.encoder.state_dict(), "predictor": state}
    path = write(tmp_path / "oss.pth.tar", checkpoint)
    assert_same(load_world_model(path, config=tiny()), tiny_model)


def test_an_unused_camera_layer_may_be_left_out(tiny_model: WorldModel, tmp_path: Path) -> None:
    state = wrapped(tiny_model.predictor, "module.")
    for kind in ("weight", "bias"):
        del state[f"module.extrinsics_encoder.{kind}"]
    checkpoint = {"encoder": wrapped(tiny_model.encoder, ""), "predictor": state}
    loaded = load_world_model(write(tmp_path / "ac.pt", checkpoint), config=tiny())
    assert not loaded.predictor.extrinsics_encoder.weight.any()


def test_half_a_camera_layer_is_not_made_up(tiny_model: WorldModel, tmp_path: Path) -> None:
    state = wrapped(tiny_model.predictor, "module.")
    del state["module.extrinsics_encoder.bias"]
    checkpoint = {"encoder": wrapped(tiny_model.encoder, ""), "predictor": state}
    path = write(tmp_path / "ac.pt", checkpoint)
    with pytest.raises(CheckpointMismatchError, match=r"1 missing: extrinsics_encoder\.bias"):
        load_world_model(path, config=tiny())


# Refusals ---------------------------------------------------------------------------------------


def test_an_encoder_for_a_model_that_has_one_is_refused(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_world_model(tiny_model, tmp_path / "whole")
    assert isinstance(tiny_model.encoder, VisionTransformer)
    save_encoder(tiny_model.encoder, tmp_path / "encoder")
    with pytest.raises(ConfigurationError, match="holds its own encoder"):
        load_world_model(tmp_path / "whole", encoder=tmp_path / "encoder")
    with pytest.raises(ConfigurationError, match="holds its own encoder"):
        convert(tmp_path / "whole", tmp_path / "out", "ours", encoder=tmp_path / "encoder")
    with pytest.raises(ConversionError, match="no action-conditioned predictor"):
        convert(tmp_path / "encoder", tmp_path / "out", "ours", encoder=tmp_path / "encoder")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("second", ["norm.weight", "backbone.norm.weight"])
def test_one_weight_under_two_names_is_refused(
    tiny_model: WorldModel, tmp_path: Path, second: str
) -> None:
    state = wrapped(tiny_model.encoder, "module.")
    path = write(tmp_path / "two.pt", {"encoder": {**state, second: torch.zeros(48)}})
    with pytest.raises(CorruptCheckpointError, match=r"'norm\.weight' .* under several names"):
        load_encoder(path)


def test_whole_numbers_keep_their_type() -> None:
    counted = nn.BatchNorm1d(3)
    counted.num_batches_tracked.fill_(70_001)  # no float16 is that large
    state = {
        name: cast(value, "cpu", torch.float16) for name, value in counted.state_dict().items()
    }
    assert state["running_mean"].dtype == torch.float16
    again = nn.BatchNorm1d(3)
    load_strictly(again, state, "here", dtype=torch.bfloat16)
    assert again.num_batches_tracked.dtype == torch.int64
    assert int(again.num_batches_tracked) == 70_001
    assert again.weight.dtype == torch.bfloat16


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "numbers.pt", {"encoder": {7: torch.zeros(3)}})
    with pytest.raises(CorruptCheckpointError, match="no network 'encoder'"):
        load_encoder(path)


def test_the_wrong_rotary_flavour_is_refused_with_the_right_one(
    encoder: VisionTransformer, encoder_config: EncoderConfig, tmp_path: Path
) -> None:
    path = write(tmp_path / "vit.pt", {"encoder": wrapped(encoder, "module.backbone.")})
    wrong = encoder_config.model_copy(update={"rope": "vjepa2_1"})
    with pytest.raises(RopeMismatchError, match=r"rope 'vjepa2'.*says 'vjepa2_1'"):
        load_encoder(path, config=wrong)


def test_hierarchical_norms_tell_the_second_flavour(tmp_path: Path) -> None:
    config = EncoderConfig(
        img_size=(32, 32),
        patch_size=8,
        num_frames=4,
        embed_dim=48,
        depth=2,
        num_heads=3,
        rope="vjepa2_1",
        norm_layers=(0, 1),
        separate_images=True,
    )
    encoder = VisionTransformer(config)
    path = write(tmp_path / "vit.pt", {"ema_encoder": wrapped(encoder, "module.backbone.")})
    assert_same(load_encoder(path, config=config), encoder)
    plain = config.model_copy(update={"rope": "vjepa2", "norm_layers": None})
    with pytest.raises(RopeMismatchError, match="'vjepa2_1'"):
        load_encoder(path, config=plain)


def test_code_in_a_file_is_named_and_not_run(encoder: VisionTransformer, tmp_path: Path) -> None:
    checkpoint = {"encoder": wrapped(encoder, ""), "args": Path("/tmp")}
    path = write(tmp_path / "vit.pt", checkpoint)
    with pytest.raises(UnsafeCheckpointError, match=r"would import and run pathlib\."):
        load_encoder(path)


def test_a_pretraining_file_is_no_world_model(encoder: VisionTransformer, tmp_path: Path) -> None:
    masked = MaskPredictor(
        MaskPredictorConfig(grid_size=(4, 4), embed_dim=48, depth=1, num_heads=2)
    )
    checkpoint = {"encoder": wrapped(encoder, ""), "predictor": wrapped(masked, "")}
    path = write(tmp_path / "vit.pt", checkpoint)
    with pytest.raises(ConfigurationError, match="load_encoder"):
        load_world_model(path)


def test_something_that_is_no_source_says_what_sources_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="download"):
        load_encoder(tmp_path / "missing.pt")


def test_a_configuration_that_contradicts_the_files_own_is_refused(
    tiny_model: WorldModel, tmp_path: Path
) -> None:
    save_published(tiny_model, tmp_path / "ac.pt")
    other = tiny().model_copy(update={"max_step_m": 0.5})
    with pytest.raises(ConfigurationError, match="differs in max_step_m"):
        load_world_model(tmp_path / "ac.pt", config=other)
    assert load_world_model(tmp_path / "ac.pt", config=tiny()).config == tiny()


def test_a_broken_configuration_in_a_published_file_is_refused(
    encoder: VisionTransformer, tmp_path: Path
) -> None:
    text = json.dumps({"encoder": {"embed_dims": 48}})
    path = write(tmp_path / "vit.pt", {"encoder": wrapped(encoder, ""), "config": text})
    with pytest.raises(ConfigurationError, match="embed_dims"):
        load_encoder(path)


def test_a_camera_layer_that_is_used_has_to_be_there() -> None:
    config = tiny().predictor.model_copy(update={"use_extrinsics": True})
    predictor = ACPredictor(config)
    state = {
        name: value
        for name, value in predictor.state_dict().items()
        if not name.startswith("extrinsics_encoder.")
    }
    assert len(compare(predictor, fit_unused_layer(state, predictor))) == 2


class Ramp(nn.Module):
    """A network with a table that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("table", torch.arange(3.0), persistent=False)


def test_tables_that_no_file_holds_are_there_after_loading() -> None:
    network = on_meta(Ramp)
    load_strictly(network, {"scale": torch.tensor([2.0])}, "here")
    assert network.get_buffer("table").tolist() == [0, 1, 2]
    assert on_meta(partial(nn.Linear, 2, 2)).weight.is_meta
