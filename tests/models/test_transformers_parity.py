"""Encoder, mask predictor and classifier against an independent implementation, both ways.

transformers' V-JEPA 2 is built from a configuration with random weights; nothing is downloaded.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.attentive_probe import AttentiveClassifier
from models.config import AttentiveProbeConfig, EncoderConfig, MaskPredictorConfig
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.timm_encoder import import_timm

# Importing it finds torchvision where that is installed, which the import of timm makes possible.
import_timm()
vjepa2 = pytest.importorskip("transformers.models.vjepa2")

TOLERANCE = 1e-4
CLASSES = 7
State = dict[str, Tensor]

ENCODER = EncoderConfig(
    img_size=(32, 32), patch_size=8, num_frames=4, embed_dim=96, depth=3, num_heads=3
)
PREDICTOR = MaskPredictorConfig(
    grid_size=(4, 4),
    embed_dim=96,
    predictor_embed_dim=48,
    depth=2,
    num_heads=2,
    num_mask_tokens=3,
)
PROBE = AttentiveProbeConfig(embed_dim=96, num_heads=3, depth=4)

_BLOCK_NAMES = [("attn.proj", "attention.proj")]
_POOLER_NAMES = [
    ("norm1", "layer_norm1"),
    ("norm2", "layer_norm2"),
    ("attn.proj", "self_attn.out_proj"),
    ("cross_attention_block", "cross_attention_layer"),
    ("blocks.", "self_attention_layers."),
]


@pytest.fixture(scope="module")
def theirs() -> Iterator[Any]:
    torch.manual_seed(0)
    config = vjepa2.VJEPA2Config(
        patch_size=8,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=96,
        num_attention_heads=3,
        num_hidden_layers=3,
        pred_hidden_size=48,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=3,
        pred_zero_init_mask_tokens=False,
        num_labels=CLASSES,
    )
    model = vjepa2.VJEPA2ForVideoClassification(config).eval()
    for module in model.pooler.modules():
        # The published probes use torch's default; transformers gives all norms the encoder's.
        if isinstance(module, nn.LayerNorm):
            module.eps = PROBE.norm_eps
    with torch.no_grad():
        for weight in model.parameters():  # fresh biases and norms would hide mistakes
            weight.add_(torch.randn_like(weight) * 0.05)
        yield model


def renamed(state: State, names: list[tuple[str, str]], prefix: str) -> State:
    """Our weights under their names; fused projections are split into those of their parts."""
    result: State = {}
    for name, value in state.items():
        stem, kind = name.rsplit(".", 1)
        for ours, others in names:
            stem = stem.replace(ours, others)
        if match := re.search(r"(attn\.qkv|xattn\.(?:q|kv))$", stem):
            start, fused = stem[: match.start()], match[0]
            for part, chunk in split(fused, value).items():
                result[f"{prefix}{start}{part}.{kind}"] = chunk
        else:
            result[f"{prefix}{stem}.{kind}"] = value
    return result


def split(fused: str, value: Tensor) -> State:
    if fused == "attn.qkv":
        return dict(zip(("Q", "K", "V"), value.chunk(3), strict=True))
    if fused == "xattn.kv":
        return dict(zip(("K", "V"), value.chunk(2), strict=True))
    return {"Q": value}


def their_encoder(state: State) -> State:
    names = [
        ("patch_embed", "embeddings.patch_embeddings"),
        ("blocks.", "layer."),
        *_BLOCK_NAMES,
    ]
    result = renamed(state, names, "encoder.")
    result = {re.sub(r"^encoder\.norm\.", "encoder.layernorm.", k): v for k, v in result.items()}
    return attention_names(result, "attention.query", "attention.key", "attention.value")


def their_predictor(state: State) -> State:
    names = [
        ("predictor_embed", "embeddings.predictor_embeddings"),
        ("predictor_blocks.", "layer."),
        ("predictor_norm", "layernorm"),
        ("predictor_proj", "proj"),
        *_BLOCK_NAMES,
    ]
    count = PREDICTOR.num_mask_tokens
    tokens = torch.stack([state[f"mask_tokens.{index}"] for index in range(count)])
    plain = {name: value for name, value in state.items() if "mask_tokens" not in name}
    result = renamed(plain, names, "predictor.")
    result = attention_names(result, "attention.query", "attention.key", "attention.value")
    return result | {"predictor.embeddings.mask_tokens": tokens}


def their_classifier(state: State) -> State:
    pooler = {k.removeprefix("pooler."): v for k, v in state.items() if k.startswith("pooler.")}
    queries = pooler.pop("query_tokens")
    result = renamed(pooler, _POOLER_NAMES, "pooler.")
    named: State = {"pooler.query_tokens": queries}
    for part, fragment in (("cross_attn", "cross_attention"), ("self_attn", "self_attention")):
        layers = {name: value for name, value in result.items() if fragment in name}
        named |= attention_names(layers, *(f"{part}.{letter}_proj" for letter in "qkv"))
    heads = {k.replace("linear", "classifier"): v for k, v in state.items() if "linear" in k}
    return named | heads


def attention_names(state: State, query: str, key: str, value: str) -> State:
    names = {"Q": query, "K": key, "V": value}
    return {
        re.sub(r"\.([QKV])\.", lambda m: f".{names[m[1]]}.", name): tensor
        for name, tensor in state.items()
    }


def adopt(network: nn.Module, theirs_of: Callable[[State], State], source: State) -> None:
    """Give our network their weights, by the way that ours would take to them."""
    ours = network.state_dict()
    flat = torch.full((sum(value.numel() for value in ours.values()),), torch.nan)
    for name, numbers in theirs_of(number(ours)).items():  # where does each of our weights go?
        assert source[name].shape == numbers.shape, name
        flat[numbers.long().flatten()] = source[name].flatten()
    assert bool(flat.isfinite().all())
    weights, start = {}, 0
    for name, value in ours.items():
        weights[name] = flat[start : start + value.numel()].view_as(value)
        start += value.numel()
    network.load_state_dict(weights)
    network.eval()


def number(state: State) -> State:
    """Count through all weights in double precision, which holds every number exactly."""
    result, start = {}, 0
    for name, value in state.items():
        stop = start + value.numel()
        result[name] = torch.arange(start, stop, dtype=torch.float64).view_as(value)
        start = stop
    return result


def their_part(model: Any, prefix: str) -> State:
    state: State = model.state_dict()
    return {k: v for k, v in state.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def ours(theirs: Any) -> tuple[VisionTransformer, MaskPredictor, AttentiveClassifier]:
    networks = (
        VisionTransformer(ENCODER),
        MaskPredictor(PREDICTOR),
        AttentiveClassifier(PROBE, CLASSES),
    )
    backbone = theirs.vjepa2.state_dict()
    adopt(networks[0], their_encoder, backbone)
    adopt(networks[1], their_predictor, backbone)
    adopt(networks[2], their_classifier, theirs.state_dict())
    return networks


def random_clip() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 4, 32, 32)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_the_encoder_gives_their_tokens(theirs: Any, ours: Any) -> None:
    clip = random_clip()
    expected = theirs.vjepa2.get_vision_features(clip.transpose(1, 2))
    assert_close(ours[0](clip), expected)


def test_the_mask_predictor_gives_their_predictions(theirs: Any, ours: Any) -> None:
    encoder, predictor, _ = ours
    order = torch.stack([torch.randperm(32) for _ in range(2)])
    seen, hidden = order[:, :20], order[:, 20:]
    clip = random_clip()
    output = theirs.vjepa2(clip.transpose(1, 2), context_mask=[seen], target_mask=[hidden])
    tokens = encoder(clip).gather(1, seen.unsqueeze(-1).expand(-1, -1, 96))
    assert_close(predictor(tokens, [seen], [hidden]), output.predictor_output.last_hidden_state)


def test_the_classifier_gives_their_logits(theirs: Any, ours: Any) -> None:
    encoder, _, classifier = ours
    clip = random_clip()
    assert_close(classifier(encoder(clip)), theirs(clip.transpose(1, 2)).logits)


def test_our_weights_under_their_names_are_their_model(theirs: Any) -> None:
    torch.manual_seed(2)
    encoder, predictor = VisionTransformer(ENCODER), MaskPredictor(PREDICTOR)
    classifier = AttentiveClassifier(PROBE, CLASSES).eval()
    state = their_encoder(encoder.state_dict()) | their_predictor(predictor.state_dict())
    complete = {f"vjepa2.{name}": value for name, value in state.items()}
    copy = type(theirs)(theirs.config).eval()
    for module in copy.pooler.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = PROBE.norm_eps
    copy.load_state_dict(complete | their_classifier(classifier.state_dict()))  # strict
    clip = random_clip()
    assert_close(classifier(encoder(clip)), copy(clip.transpose(1, 2)).logits)
