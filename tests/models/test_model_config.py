"""Configurations refuse what would not work."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    WorldModelConfig,
    tiny,
    vit_giant_xformers,
    vjepa2_ac_vit_giant,
)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="num_head"):
        EncoderConfig.model_validate({"embed_dim": 96, "depth": 1, "num_heads": 2, "num_head": 3})


def test_configurations_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        tiny().encoder.depth = 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_heads": 5}, "does not divide the width"),
        ({"num_heads": 24}, "too few"),
        ({"img_size": (30, 32)}, "patch_size 8 does not divide"),
        ({"num_frames": 3}, "tubelet_size 2 does not divide"),
        ({"depth": 0}, "greater than 0"),
        ({"rope": "other"}, "vjepa2"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        EncoderConfig.model_validate({**tiny().encoder.model_dump(), **changes})


@pytest.mark.parametrize(
    ("part", "changes", "complaint"),
    [
        ("predictor", {"embed_dim": 64}, "channels"),
        ("predictor", {"grid_size": (4, 5)}, "patches"),
        ("encoder", {"img_size": (16, 64)}, "patches"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    part: str, changes: dict[str, Any], complaint: str
) -> None:
    values = tiny().model_dump()
    values[part].update(changes)
    with pytest.raises(ValidationError, match=complaint):
        WorldModelConfig.model_validate(values)


def test_a_stretched_frame_is_not_a_centre_square() -> None:
    values = tiny().model_dump()
    values["encoder"]["img_size"] = (16, 64)
    values["predictor"]["grid_size"] = (2, 8)
    with pytest.raises(ValidationError, match="square img_size"):
        WorldModelConfig.model_validate(values)


def test_the_action_box_names_every_axis() -> None:
    config = tiny().model_copy(update={"max_rotation_rad": 0.1, "max_gripper": 0.5})
    assert config.max_action == (0.15, 0.15, 0.15, 0.1, 0.1, 0.1, 0.5)


def test_the_published_world_model_is_described_completely() -> None:
    config = vjepa2_ac_vit_giant()
    assert config.encoder.tokens_per_frame == config.predictor.tokens_per_frame == 256
    assert config.encoder.head_dim == 64
    assert config.predictor == ACPredictorConfig(
        embed_dim=1408, predictor_embed_dim=1024, depth=24, num_heads=16
    )
    assert vit_giant_xformers((384, 384)).grid_size == (24, 24)


def test_configurations_survive_json() -> None:
    config = vjepa2_ac_vit_giant()
    assert WorldModelConfig.model_validate_json(config.model_dump_json()) == config


def test_descriptions_written_before_there_were_options_keep_their_meaning() -> None:
    """Fields that came later have defaults that are what the networks then were."""
    transformer = {"depth": 2, "mlp_ratio": 4.0, "rope": "vjepa2"}
    written = {
        "name": "tiny",
        "encoder": {
            **transformer,
            "num_heads": 3,
            "img_size": [32, 32],
            "patch_size": 8,
            "num_frames": 4,
            "tubelet_size": 2,
            "embed_dim": 48,
        },
        "predictor": {
            **transformer,
            "num_heads": 2,
            "grid_size": [4, 4],
            "embed_dim": 48,
            "predictor_embed_dim": 32,
            "action_dim": 7,
            "use_extrinsics": False,
            "residual": False,
        },
        "control_period_s": 1.0,
        "max_step_m": 0.15,
        "max_rotation_rad": 0.0,
        "max_gripper": 1.0,
        "frame_geometry": "centre_square",
    }
    assert WorldModelConfig.model_validate_json(json.dumps(written)) == tiny()


def test_an_unknown_key_of_either_kind_of_encoder_is_named() -> None:
    for encoder in ({"timm_model": "x", "embed_dim": 8}, {"embed_dim": 48}):
        values = tiny().model_dump() | {"encoder": {**encoder, "tubelets": 2}}
        with pytest.raises(ValidationError, match="tubelets") as caught:
            WorldModelConfig.model_validate(values)
        kinds = {str(error["loc"][1]) for error in caught.value.errors()}
        assert kinds == {"timm" if "timm_model" in encoder else "vit"}


def test_a_width_that_no_sine_cosine_table_has_is_refused() -> None:
    values = tiny().encoder.model_dump() | {"rope": None, "embed_dim": 36}
    with pytest.raises(ValidationError, match="divisible by 8, got 36"):
        EncoderConfig.model_validate(values)
