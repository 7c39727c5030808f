"""V-JEPA 2.1 encoders: true rotations, scaled positions, images apart from videos."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.config import EncoderConfig, WorldModelConfig, tiny
from models.encoder import VisionTransformer
from models.errors import ConfigurationError, InvalidInputError, RopeMismatchError
from models.rope import axis_channels, conditioned_rotary, grid_rotary
from models.world_model import WorldModel

CPU = torch.device("cpu")


def encoder_config(**changes: Any) -> EncoderConfig:
    values = {
        **tiny().encoder.model_dump(),
        "rope": "vjepa2_1",
        "norm_layers": (0, 1),
        "separate_images": True,
    }
    return EncoderConfig.model_validate({**values, **changes})


@pytest.fixture
def encoder() -> VisionTransformer:
    torch.manual_seed(0)
    network = VisionTransformer(encoder_config()).eval()
    with torch.no_grad():
        for weight in network.parameters():  # fresh norms and modalities could hide mistakes
            weight.add_(torch.randn_like(weight) * 0.1)
    return network


def world_config(**predictor: Any) -> WorldModelConfig:
    values = tiny().model_dump()
    values["encoder"] = encoder_config().model_dump()
    values["predictor"] |= {"rope": "vjepa2_1", **predictor}
    return WorldModelConfig.model_validate(values)


def test_rotations_keep_the_length_of_every_pair() -> None:
    channels = torch.randn(1, 2, 24, 64)
    pairs = channels.view(1, 2, 24, 32, 2).norm(dim=-1)
    for flavour, is_rotation in (("vjepa2_1", True), ("vjepa2", False)):
        rotary = grid_rotary(2, 3, 4, 64, torch.float32, CPU, flavour)  # type: ignore[arg-type]
        turned = rotary.rotate(channels).view(1, 2, 24, 32, 2).norm(dim=-1)
        assert torch.allclose(turned, pairs, atol=1e-5) == is_rotation


def test_attention_depends_on_the_distance_of_tokens_only() -> None:
    rotary = grid_rotary(1, 1, 16, 64, torch.float32, CPU, "vjepa2_1")
    query, key = torch.randn(2, 1, 1, 1, 64).expand(2, 1, 1, 16, 64)
    scores = rotary.rotate(query)[0, 0] @ rotary.rotate(key)[0, 0].T
    for distance in range(1, 15):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)


def test_rows_and_columns_are_scaled_to_sixteen_and_time_is_not() -> None:
    size = axis_channels(64)
    rotary = grid_rotary(3, 24, 24, 64, torch.float32, CPU, "vjepa2_1")
    cosine = rotary.cosine.view(3, 24, 24, 64)
    assert math.isclose(cosine[2, 0, 0, 0], math.cos(2), abs_tol=1e-6)
    assert math.isclose(cosine[0, 7, 0, size], math.cos(7 * 15 / 23), abs_tol=1e-6)
    assert math.isclose(cosine[0, 0, 23, 2 * size + 1], math.cos(15), abs_tol=1e-5)
    same = grid_rotary(1, 16, 16, 64, torch.float32, CPU, "vjepa2_1").cosine
    plain = grid_rotary(1, 16, 16, 64, torch.float32, CPU).cosine
    assert torch.equal(same[:, size], plain[:, size])


def test_a_grid_of_one_row_stays_finite() -> None:
    assert bool(grid_rotary(1, 1, 1, 32, torch.float32, CPU, "vjepa2_1").cosine.isfinite().all())


def test_predictors_scale_their_patches_alike() -> None:
    patches = grid_rotary(2, 4, 4, 32, torch.float32, CPU, "vjepa2_1").cosine.view(2, 16, 32)
    tokens = conditioned_rotary(2, 4, 4, 2, 32, torch.float32, CPU, "vjepa2_1").cosine
    assert torch.equal(tokens.view(2, 18, 32)[:, 2:], patches)


def plain_encode(weights: dict[str, Tensor], clip: Tensor, heads: int, level: int) -> Tensor:
    """The encoder written down once more, with complex numbers for rotations."""
    is_image = clip.shape[2] == 1
    embed, mark = ("patch_embed_img", "img") if is_image else ("patch_embed", "video")
    kernel = weights[f"{embed}.proj.weight"]
    grid = F.conv3d(clip, kernel, weights[f"{embed}.proj.bias"], stride=kernel.shape[2:])
    frames, rows, columns = grid.shape[2:]
    x = grid.flatten(2).transpose(1, 2) + weights[f"{mark}_mod_embed"]
    places = torch.stack(
        torch.meshgrid(
            torch.arange(frames).double(),
            torch.linspace(0, 15, rows, dtype=torch.float64),
            torch.linspace(0, 15, columns, dtype=torch.float64),
            indexing="ij",
        )
    ).flatten(1)
    for index in range(level + 1):
        block = {
            k.removeprefix(f"blocks.{index}."): v
            for k, v in weights.items()
            if k.startswith(f"blocks.{index}.")
        }
        x = x + plain_attention(block, plain_norm(block, "norm1", x), places, heads)
        y = F.linear(plain_norm(block, "norm2", x), block["mlp.fc1.weight"], block["mlp.fc1.bias"])
        x = x + F.linear(F.gelu(y), block["mlp.fc2.weight"], block["mlp.fc2.bias"])
    return plain_norm(weights, f"norms_block.{level}", x)


def plain_norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(
        x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6
    )


def plain_attention(block: dict[str, Tensor], x: Tensor, places: Tensor, heads: int) -> Tensor:
    parts = F.linear(x, block["attn.qkv.weight"], block["attn.qkv.bias"]).chunk(3, dim=-1)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    size = 2 * (q.shape[-1] // 3 // 2)
    turned = []
    for values in (q, k):
        pieces = []
        for axis, position in enumerate(places):
            frequency = 10_000.0 ** (-torch.arange(size // 2).double() / (size / 2))
            turn = torch.polar(torch.ones(1).double(), position[:, None] * frequency)
            piece = values[..., axis * size : (axis + 1) * size].double().unflatten(-1, (-1, 2))
            pieces.append(torch.view_as_real(torch.view_as_complex(piece) * turn).flatten(-2))
        turned.append(torch.cat([*pieces, values[..., 3 * size :].double()], dim=-1).float())
    scores = turned[0] @ turned[1].transpose(-1, -2) / q.shape[-1] ** 0.5
    y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return F.linear(y, block["attn.proj.weight"], block["attn.proj.bias"])


@pytest.mark.parametrize("shape", [(1, 32, 32), (4, 32, 48), (2, 64, 40)])
def test_the_encoder_computes_what_its_description_says(
    encoder: VisionTransformer, shape: tuple[int, int, int]
) -> None:
    clip = torch.randn(2, 3, *shape)
    for level, tokens in enumerate(encoder.levels(clip, [0, 1])):
        expected = plain_encode(encoder.state_dict(), clip, encoder.config.num_heads, level)
        torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)


def test_images_and_videos_have_patches_and_marks_of_their_own(encoder: VisionTransformer) -> None:
    frame = torch.randn(2, 3, 1, 32, 32)
    image, video = encoder(frame), encoder(frame.expand(-1, -1, 2, -1, -1))
    assert image.shape == video.shape == (2, 16, 48)
    assert not torch.allclose(image, video, atol=1e-2)
    with torch.no_grad():
        encoder.img_mod_embed += torch.randn(48)
    assert not torch.allclose(encoder(frame), image, atol=1e-3)
    assert torch.equal(encoder(frame.expand(-1, -1, 2, -1, -1)), video)


def test_every_level_has_its_own_norm(encoder: VisionTransformer) -> None:
    outputs: list[Tensor] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    clip = torch.randn(1, 3, 4, 32, 32)
    levels = encoder.levels(clip, [0, 1])
    for level, output, norm in zip(levels, outputs, encoder.norms_block, strict=True):
        assert torch.equal(level, norm(output))
    assert torch.equal(levels[1], encoder(clip))


def test_levels_without_a_norm_are_refused() -> None:
    config = encoder_config(depth=3, norm_layers=(0, 2))
    with pytest.raises(InvalidInputError, match=r"\[0, 2\]"):
        VisionTransformer(config).levels(torch.randn(1, 3, 2, 32, 32), [1, 2])


def test_a_world_model_encodes_frames_as_images(encoder: VisionTransformer) -> None:
    model = WorldModel(world_config(), encoder).eval()
    frames = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    tokens = model.encode(frames)
    assert tokens.shape == (2, 16, 48)
    predicted, _ = model.rollout(tokens, torch.zeros(2, 7), torch.rand(2, 2, 7))
    assert predicted.shape == (2, 2, 16, 48)


# Flavours never mix -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rope": "vjepa2"}, "'vjepa2_1', not 'vjepa2'"),
        ({"rope": None}, "'vjepa2_1', not None"),
        ({"rope": "vjepa3"}, "'vjepa2' or 'vjepa2_1'"),
        ({"norm_layers": (0,)}, "end with the last block, 1"),
        ({"norm_layers": (1, 0)}, "must rise"),
        ({"norm_layers": ()}, "must rise"),
    ],
)
def test_an_encoder_of_2_1_that_makes_no_sense_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        encoder_config(**changes)


def test_a_predictor_of_another_flavour_is_refused() -> None:
    with pytest.raises(ValidationError, match="flavours do not mix"):
        world_config(rope="vjepa2")


def test_networks_of_another_flavour_than_configured_are_refused(
    encoder: VisionTransformer,
) -> None:
    with pytest.raises(RopeMismatchError, match=r"'vjepa2_1'.*says 'vjepa2'"):
        WorldModel(tiny(), encoder)
    with pytest.raises(RopeMismatchError, match="predictor"):
        WorldModel(tiny(), predictor=ACPredictor(world_config().predictor))


def test_another_network_than_the_configured_is_refused() -> None:
    deeper = tiny().encoder.model_copy(update={"depth": 3})
    with pytest.raises(ConfigurationError, match="depth=3"):
        WorldModel(tiny(), VisionTransformer(deeper))
