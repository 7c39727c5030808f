"""Full-size networks have exactly the parameters of the published files."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models.ac_predictor import ACPredictor
from models.attentive_probe import AnticipationClassifier, AttentiveClassifier
from models.config import (
    AttentiveProbeConfig,
    EncoderConfig,
    MaskPredictorConfig,
    vit_giant_xformers,
    vit_huge,
    vit_large,
    vjepa2_ac_vit_giant,
)
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.presets import (
    ENCODER_PRESETS,
    vit_giant_384,
    vjepa2_1_vit_base,
    vjepa2_1_vit_giant,
    vjepa2_1_vit_gigantic,
    vjepa2_1_vit_large,
    vjepa2_ac_droid,
)

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def blocks(name: str, dim: int, depth: int, hidden: int) -> Shapes:
    """The key layout of a stack of blocks, written out from the published files' description."""
    shapes: Shapes = {}
    for index in range(depth):
        block = f"{name}.{index}"
        shapes |= norm(f"{block}.norm1", dim)
        shapes |= linear(f"{block}.attn.qkv", dim, 3 * dim)
        shapes |= linear(f"{block}.attn.proj", dim, dim)
        shapes |= norm(f"{block}.norm2", dim)
        shapes |= linear(f"{block}.mlp.fc1", dim, hidden)
        shapes |= linear(f"{block}.mlp.fc2", hidden, dim)
    return shapes


def patches(name: str, dim: int, tubelet: int) -> Shapes:
    return {f"{name}.proj.weight": (dim, 3, tubelet, 16, 16), f"{name}.proj.bias": (dim,)}


def published_encoder(dim: int, depth: int, hidden: int) -> Shapes:
    trunk = blocks("blocks", dim, depth, hidden)
    return patches("patch_embed", dim, 2) | trunk | norm("norm", dim)


def published_encoder_2_1(dim: int, depth: int, hidden: int) -> Shapes:
    shapes = patches("patch_embed", dim, 2) | patches("patch_embed_img", dim, 1)
    shapes |= {"img_mod_embed": (1, 1, dim), "video_mod_embed": (1, 1, dim)}
    for level in range(4):
        shapes |= norm(f"norms_block.{level}", dim)
    return shapes | blocks("blocks", dim, depth, hidden)


def published_ac_predictor(*, has_state: bool) -> Shapes:
    shapes = linear("predictor_embed", 1408, 1024) | linear("action_encoder", 7, 1024)
    if has_state:
        shapes |= linear("state_encoder", 7, 1024) | linear("extrinsics_encoder", 6, 1024)
    shapes |= blocks("predictor_blocks", 1024, 24, 4096)
    return shapes | norm("predictor_norm", 1024) | linear("predictor_proj", 1024, 1408)


def published_mask_predictor(dim: int) -> Shapes:
    shapes = linear("predictor_embed", dim, 384)
    shapes |= {f"mask_tokens.{index}": (1, 1, 384) for index in range(10)}
    shapes |= blocks("predictor_blocks", 384, 12, 1536)
    return shapes | norm("predictor_norm", 384) | linear("predictor_proj", 384, dim)


def published_pooler(dim: int, queries: int) -> Shapes:
    cross = "pooler.cross_attention_block"
    shapes: Shapes = {"pooler.query_tokens": (1, queries, dim)}
    shapes |= norm(f"{cross}.norm1", dim) | norm(f"{cross}.norm2", dim)
    shapes |= linear(f"{cross}.xattn.q", dim, dim) | linear(f"{cross}.xattn.kv", dim, 2 * dim)
    shapes |= linear(f"{cross}.mlp.fc1", dim, 4 * dim) | linear(f"{cross}.mlp.fc2", 4 * dim, dim)
    return shapes | blocks("pooler.blocks", dim, 3, 4 * dim)


def shapes_of(network: nn.Module) -> Shapes:
    assert not list(network.buffers())
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


@pytest.fixture(autouse=True)
def without_memory() -> Iterator[None]:
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    ("config", "expected", "parameters"),
    [
        (vit_large(), (1024, 24, 4096), 303_885_312),
        (vit_huge(), (1280, 32, 5120), 631_648_000),
        (vit_giant_xformers(), (1408, 40, 6144), 1_012_173_952),
        (vit_giant_384(), (1408, 40, 6144), 1_012_173_952),
    ],
    ids=["L", "H", "g", "g-384"],
)
def test_encoders_have_the_published_parameters(
    config: EncoderConfig, expected: tuple[int, int, int], parameters: int
) -> None:
    shapes = shapes_of(VisionTransformer(config))
    assert shapes == published_encoder(*expected)
    assert count(shapes) == parameters


@pytest.mark.parametrize(
    ("config", "expected", "millions"),
    [
        (vjepa2_1_vit_base(), (768, 12, 3072), 87),
        (vjepa2_1_vit_large(), (1024, 24, 4096), 305),
        (vjepa2_1_vit_giant(), (1408, 40, 6144), 1013),
        (vjepa2_1_vit_gigantic(), (1664, 48, 8192), 1845),
    ],
    ids=["B", "L", "g", "G"],
)
def test_encoders_of_2_1_have_the_published_parameters(
    config: EncoderConfig, expected: tuple[int, int, int], millions: int
) -> None:
    shapes = shapes_of(VisionTransformer(config))
    assert shapes == published_encoder_2_1(*expected)
    assert round(count(shapes) / 1e6) == millions


@pytest.mark.parametrize("has_state", [True, False], ids=["published", "jepa-wms"])
def test_the_ac_predictor_has_the_published_parameters(has_state: bool) -> None:
    config = vjepa2_ac_vit_giant() if has_state else vjepa2_ac_droid()
    shapes = shapes_of(ACPredictor(config.predictor))
    assert shapes == published_ac_predictor(has_state=has_state)
    per_frame = config.predictor.tokens_per_frame + config.predictor.condition_tokens
    assert per_frame == (258 if has_state else 257)


@pytest.mark.parametrize("dim", [1024, 1280, 1408])
def test_the_mask_predictor_has_the_published_parameters(dim: int) -> None:
    network = MaskPredictor(MaskPredictorConfig(embed_dim=dim))
    assert shapes_of(network) == published_mask_predictor(dim)


def test_probes_have_the_published_parameters() -> None:
    config = AttentiveProbeConfig(embed_dim=1024)
    classifier = AttentiveClassifier(config, num_classes=174)
    assert shapes_of(classifier) == published_pooler(1024, 1) | linear("linear", 1024, 174)
    heads = {"verb_classifier": 97, "noun_classifier": 300, "action_classifier": 3568}
    anticipation = AnticipationClassifier(config, *heads.values())
    expected = published_pooler(1024, 3)
    for name, classes in heads.items():
        expected |= linear(name, 1024, classes)
    assert shapes_of(anticipation) == expected


@pytest.mark.parametrize("name", ENCODER_PRESETS)
def test_every_preset_can_be_built(name: str) -> None:
    config = ENCODER_PRESETS[name]()
    assert VisionTransformer(config).config.head_dim in (64, 80)
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config
