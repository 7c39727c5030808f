"""Attentive probes against the reference, and their heads."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.attentive_probe import AnticipationClassifier, AttentiveClassifier, AttentivePooler
from models.config import AttentiveProbeConfig
from models.errors import InvalidInputError

CONFIG = AttentiveProbeConfig(embed_dim=64, num_heads=4)


@pytest.fixture
def probe_vectors(golden_dir: Path) -> dict[str, Any]:
    vectors: dict[str, Any] = torch.load(golden_dir / "attentive_probe.pt", weights_only=True)
    return vectors


def test_the_published_layout_gives_the_reference_logits(probe_vectors: dict[str, Any]) -> None:
    published = probe_vectors["checkpoint"]["classifiers"][0]
    classifier = AttentiveClassifier(CONFIG, num_classes=11)
    classifier.load_state_dict({k.removeprefix("module."): v for k, v in published.items()})
    logits = classifier(probe_vectors["tokens"])
    torch.testing.assert_close(logits, probe_vectors["logits"], atol=1e-4, rtol=0)


def test_norms_have_the_larger_epsilon_of_the_probes() -> None:
    norms = [m for m in AttentivePooler(CONFIG).modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 2 * CONFIG.depth
    assert {norm.eps for norm in norms} == {1e-5}


def test_the_order_of_tokens_does_not_matter() -> None:
    pooler, tokens = AttentivePooler(CONFIG), torch.randn(2, 10, 64)
    pooled = pooler(tokens[:, torch.randperm(10)])
    torch.testing.assert_close(pooled, pooler(tokens), atol=1e-5, rtol=0)


def test_each_head_of_anticipation_listens_to_its_own_query() -> None:
    torch.manual_seed(0)
    classifier = AnticipationClassifier(CONFIG, num_verbs=3, num_nouns=4, num_actions=5)
    tokens = torch.randn(2, 10, 64)
    before = classifier(tokens)
    assert [logits.shape for logits in before] == [(2, 3), (2, 4), (2, 5)]
    for index, name in enumerate(("verb", "noun", "action")):
        with torch.no_grad():
            classifier.pooler.query_tokens[:, index] += 1.0
        after = classifier(tokens)
        changed = [
            n for n in after._fields if not torch.equal(getattr(after, n), getattr(before, n))
        ]
        assert changed == [name]
        before = after


def test_tokens_of_other_models_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"expected \[B, N, 64\]"):
        AttentivePooler(CONFIG)(torch.zeros(2, 10, 63))


def test_gradients_reach_every_weight() -> None:
    classifier = AttentiveClassifier(CONFIG, num_classes=3)
    classifier(torch.randn(2, 5, 64)).square().sum().backward()
    assert all(weight.grad is not None for weight in classifier.parameters())
