"""The encoder against the reference, and what it refuses."""

from typing import Any

import pytest
import torch

from models.config import EncoderConfig, vit_giant_xformers, vit_huge, vit_large
from models.encoder import VisionTransformer
from models.errors import InvalidInputError
from models.world_model import WorldModel

TOLERANCE = 1e-4


@pytest.fixture
def encoder() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        EncoderConfig(img_size=(16, 16), patch_size=8, embed_dim=24, depth=2, num_heads=2)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("clip", "clip_tokens"),
        ("frame_pair", "frame_pair_tokens"),
        ("wide_clip", "wide_tokens"),
    ],
)
def test_clips_give_the_reference_tokens(
    golden_model: WorldModel, encoder_vectors: dict[str, Any], given: str, expected: str
) -> None:
    tokens = golden_model.encoder(encoder_vectors[given])
    torch.testing.assert_close(tokens, encoder_vectors[expected], atol=TOLERANCE, rtol=0)


def test_masked_clips_give_the_reference_tokens(
    golden_model: WorldModel, encoder_vectors: dict[str, Any]
) -> None:
    tokens = golden_model.encoder(encoder_vectors["clip"], masks=[encoder_vectors["mask"]])
    torch.testing.assert_close(tokens, encoder_vectors["masked_tokens"], atol=TOLERANCE, rtol=0)


def test_several_masks_are_stacked_along_the_batch(encoder: VisionTransformer) -> None:
    clip = torch.randn(3, 3, 4, 16, 16)
    masks = [torch.tensor([[0, 3, 5]] * 3), torch.tensor([[7, 1, 2]] * 3)]
    together = encoder(clip, masks=masks)
    one_by_one = torch.cat([encoder(clip, masks=[mask]) for mask in masks])
    torch.testing.assert_close(together, one_by_one)


def test_keeping_every_token_changes_nothing(encoder: VisionTransformer) -> None:
    clip = torch.randn(2, 3, 4, 16, 16)
    order = torch.stack([torch.randperm(8) for _ in range(2)])
    kept = encoder(clip, masks=[order])
    expected = encoder(clip).gather(1, order.unsqueeze(-1).expand(-1, -1, 24))
    torch.testing.assert_close(kept, expected)


def test_samples_of_a_batch_do_not_see_each_other(encoder: VisionTransformer) -> None:
    clip = torch.randn(3, 3, 4, 16, 16)
    torch.testing.assert_close(encoder(clip)[1:2], encoder(clip[1:2]))


def test_bfloat16_autocast_stays_near_single_precision(encoder: VisionTransformer) -> None:
    clip = torch.randn(2, 3, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder(clip)
    assert (half.float() - encoder(clip)).abs().mean() < 0.02


def test_gradients_reach_every_weight(encoder: VisionTransformer) -> None:
    encoder(
        torch.randn(1, 3, 2, 16, 16), masks=[torch.tensor([[0, 2, 3]])]
    ).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((1, 4, 2, 16, 16), "expected"),
        ((1, 3, 16, 16), "expected"),
        ((1, 3, 3, 16, 16), "tubelets"),
        ((1, 3, 2, 20, 16), "patches"),
        ((1, 3, 2, 16, 12), "patches"),
        ((1, 3, 0, 16, 16), "cut"),
    ],
)
def test_clips_that_do_not_fit_are_refused(
    encoder: VisionTransformer, shape: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize(
    ("config", "millions", "hidden"),
    [(vit_large(), 304, 4096), (vit_huge(), 632, 5120), (vit_giant_xformers(), 1012, 6144)],
)
def test_presets_have_the_published_sizes(
    config: EncoderConfig, millions: int, hidden: int
) -> None:
    with torch.device("meta"):
        encoder = VisionTransformer(config)
    assert round(sum(weight.numel() for weight in encoder.parameters()) / 1e6) == millions
    assert encoder.state_dict()["blocks.0.mlp.fc1.bias"].shape == (hidden,)
