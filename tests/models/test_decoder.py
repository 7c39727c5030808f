"""The pixel decoder: shapes, files, and what it refuses."""

import json

import pytest
import torch

from models.config import tiny
from models.decoder import (
    DECODER_CONFIG,
    DECODER_WEIGHTS,
    DecoderConfig,
    PixelDecoder,
    has_decoder,
    load_decoder,
    read_description,
    save_decoder,
)
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigurationError,
    InvalidInputError,
)


def config(**changes):
    values = dict(
        embed_dim=48,
        grid_size=(4, 4),
        img_size=(32, 32),
        decoder_embed_dim=32,
        depth=1,
        num_heads=2,
    )
    return DecoderConfig.model_validate({**values, **changes})


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return PixelDecoder(config()).eval()


@pytest.mark.parametrize(
    ("grid", "image"),
    [((4, 4), (64, 64)), ((8, 8), (64, 64)), ((2, 4), (32, 64)), ((4, 4), (4, 4))],
)
def test_any_power_of_two_leads_from_grid_to_image(grid, image):
    network = PixelDecoder(config(grid_size=grid, img_size=image))
    tokens = torch.randn(2, grid[0] * grid[1], 48)
    assert network(tokens).shape == (2, 3, *image)
    drawn = network.draw(tokens)
    assert drawn.shape == (2, *image, 3)
    assert drawn.dtype == torch.uint8


def test_a_grid_that_cannot_be_doubled_into_the_image_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        config(img_size=(48, 48))
    with pytest.raises(ValueError, match="power of two"):
        config(img_size=(32, 64))


def test_frames_are_decoded_one_by_one(decoder):
    tokens = torch.randn(3, 16, 48)
    alone = torch.cat([decoder.draw(frame[None]) for frame in tokens])
    assert int((alone.int() - decoder.draw(tokens).int()).abs().max()) <= 1


def test_what_is_saved_is_loaded(decoder, tmp_path):
    save_decoder(decoder, tmp_path, {"encoder_sha256": "abc"})
    assert has_decoder(tmp_path)
    assert read_description(tmp_path).metadata == {"encoder_sha256": "abc"}
    tokens = torch.randn(1, 16, 48)
    loaded = load_decoder(tmp_path, world_model=tiny())
    torch.testing.assert_close(loaded(tokens), decoder(tokens))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_it_may_live_beside_a_world_model_without_disturbing_it(decoder, tmp_path):
    from models.checkpoint import load_world_model, save_world_model
    from models.world_model import WorldModel

    save_world_model(WorldModel(tiny()), tmp_path)
    save_decoder(decoder, tmp_path, {})
    assert load_world_model(tmp_path).config == tiny()
    assert load_decoder(tmp_path).config == decoder.config


def test_a_decoder_of_another_model_is_refused(decoder, tmp_path):
    save_decoder(PixelDecoder(config(embed_dim=24)), tmp_path, {})
    with pytest.raises(ConfigurationError, match="24 channels, tiny makes"):
        load_decoder(tmp_path, world_model=tiny())


def test_tokens_of_another_shape_are_refused(decoder):
    with pytest.raises(InvalidInputError, match="takes \\[B, 16, 48\\]"):
        decoder(torch.randn(1, 4, 48))


def test_missing_and_damaged_files_say_what_to_do(decoder, tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="python -m training decoder"):
        load_decoder(tmp_path)
    save_decoder(decoder, tmp_path, {})
    description = json.loads((tmp_path / DECODER_CONFIG).read_text())
    (tmp_path / DECODER_CONFIG).write_text(json.dumps({**description, "format_version": 9}))
    with pytest.raises(ConfigurationError, match="format 9"):
        load_decoder(tmp_path)
    description["decoder"]["depth"] = 2
    (tmp_path / DECODER_CONFIG).write_text(json.dumps(description))
    with pytest.raises(CheckpointMismatchError, match=r"decoder_blocks\.1"):
        load_decoder(tmp_path)
    (tmp_path / DECODER_WEIGHTS).unlink()
    with pytest.raises(CheckpointNotFoundError, match="train it again"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe no text", b'{"decoder": {}}'])
def test_a_description_that_is_none_is_named(decoder, tmp_path, content):
    save_decoder(decoder, tmp_path, {})
    (tmp_path / DECODER_CONFIG).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"decoder\.json is not a valid description"):
        load_decoder(tmp_path)


def test_a_decoder_for_the_shipped_model_is_small():
    network = PixelDecoder(
        config(
            embed_dim=192,
            grid_size=(8, 8),
            img_size=(128, 128),
            decoder_embed_dim=256,
            depth=3,
            num_heads=4,
        )
    )
    stored = 2 * sum(parameter.numel() for parameter in network.parameters())
    assert stored <= 10e6
