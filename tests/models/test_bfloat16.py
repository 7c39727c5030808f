"""Half precision on the CPU stays within two per cent of single precision, for the same weights."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.attentive_probe import AttentiveClassifier
from models.config import AttentiveProbeConfig, EncoderConfig, MaskPredictorConfig
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.world_model import WorldModel

TOLERANCE = 2e-2
Run = Callable[[nn.Module, torch.dtype], Tensor]


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


def assert_half_is_near(network: nn.Module, run: Run) -> None:
    with torch.no_grad():
        exact = run(network, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = run(network, torch.float32)
        half = run(copy.deepcopy(network).bfloat16(), torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert relative_error(mixed, exact) < TOLERANCE
    assert relative_error(half, exact) < TOLERANCE


def test_the_encoder_with_the_reference_weights(
    golden_model: WorldModel, encoder_vectors: dict[str, Any]
) -> None:
    clip = encoder_vectors["clip"]
    assert_half_is_near(golden_model.encoder, lambda network, dtype: network(clip.to(dtype)))


@pytest.mark.parametrize("frames", [1, 4])
def test_the_ac_predictor_with_the_reference_weights(
    golden_model: WorldModel, ac_vectors: dict[str, Any], frames: int
) -> None:
    def run(network: nn.Module, dtype: torch.dtype) -> Tensor:
        predicted: Tensor = network(
            ac_vectors["tokens"][:, : 16 * frames].to(dtype),
            ac_vectors["actions"][:, :frames].to(dtype),
            ac_vectors["states"][:, :frames].to(dtype),
        )
        return predicted

    assert_half_is_near(golden_model.predictor, run)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope": None},
        {"attention": "factorised"},
        {"rope": "vjepa2_1", "norm_layers": (1, 3), "separate_images": True},
    ],
    ids=["rope", "sincos", "factorised", "2.1"],
)
def test_every_kind_of_encoder(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    values = {"img_size": (64, 64), "embed_dim": 96, "depth": 4, "num_heads": 3, "num_frames": 8}
    network = VisionTransformer(EncoderConfig.model_validate({**values, **changes})).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    assert_half_is_near(network, lambda encoder, dtype: encoder(clip.to(dtype)))


def test_the_mask_predictor() -> None:
    torch.manual_seed(0)
    config = MaskPredictorConfig(grid_size=(4, 4), embed_dim=96, predictor_embed_dim=96, depth=4)
    network = MaskPredictor(config.model_copy(update={"num_heads": 3}))
    order = torch.stack([torch.randperm(32) for _ in range(2)])
    tokens = torch.randn(2, 20, 96)
    assert_half_is_near(
        network,
        lambda predictor, dtype: predictor(tokens.to(dtype), [order[:, :20]], [order[:, 20:]]),
    )


def test_the_classifier() -> None:
    torch.manual_seed(0)
    network = AttentiveClassifier(AttentiveProbeConfig(embed_dim=96, num_heads=3), num_classes=9)
    tokens = torch.randn(2, 40, 96)
    assert_half_is_near(network, lambda classifier, dtype: classifier(tokens.to(dtype)))
