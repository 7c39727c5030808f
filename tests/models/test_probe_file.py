"""Published probes: what their files say about them, and what is refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from models.attentive_probe import AnticipationClassifier, AttentiveClassifier
from models.config import AttentiveProbeConfig
from models.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    ProbeMismatchError,
    UnsafeCheckpointError,
)
from models.probe_file import open_probe

NEEDED = (
    "pooler.query_tokens",
    "pooler.cross_attention_block.mlp.fc1.weight",
    "linear.weight",
)
CONFIG = AttentiveProbeConfig(embed_dim=48, num_heads=4, depth=2)


def published(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"module.{name}": value for name, value in module.state_dict().items()}


def write(path: Path, *modules: torch.nn.Module) -> Path:
    content = {"classifiers": [published(module) for module in modules], "epoch": 20}
    torch.save(content, path)
    return path


def drawn(
    classes: int, config: AttentiveProbeConfig = CONFIG, seed: int = 0
) -> AttentiveClassifier:
    torch.manual_seed(seed)
    return AttentiveClassifier(config, classes).eval()


def test_the_reference_probe_gives_its_logits(shared_dir: Path, tmp_path: Path) -> None:
    vectors: dict[str, Any] = torch.load(
        shared_dir / "golden" / "attentive_probe.pt", weights_only=True
    )
    torch.save(vectors["checkpoint"], tmp_path / "probe.pt")
    file = open_probe(tmp_path / "probe.pt", num_heads=4)
    assert (file.kind, file.classes, file.config.embed_dim, file.config.depth) == (
        "classification",
        (11,),
        64,
        4,
    )
    with torch.no_grad():
        logits = file.classifier()(vectors["tokens"])
    torch.testing.assert_close(logits, vectors["logits"], atol=1e-4, rtol=0)


def test_the_weights_alone_say_what_a_probe_is(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"depth": 1, "mlp_ratio": 2.0})
    file = open_probe(write(tmp_path / "probe.pt", drawn(7, config)), num_heads=4)
    assert file.config == config
    assert file.classes == (7,)


def test_a_head_of_a_grid_is_chosen_by_its_number(tmp_path: Path) -> None:
    heads = [drawn(5, seed=seed) for seed in range(3)]
    file = open_probe(write(tmp_path / "grid.pt", *heads), num_heads=4)
    tokens = torch.randn(2, 9, 48)
    with torch.no_grad():
        assert torch.equal(file.classifier(2)(tokens), heads[2](tokens))
    with pytest.raises(ProbeMismatchError, match="3 heads; choose one of 0 to 2"):
        file.classifier()
    with pytest.raises(ProbeMismatchError, match="no head 3"):
        file.classifier(3)


def test_loaded_probes_are_for_inference(tmp_path: Path) -> None:
    probe = open_probe(write(tmp_path / "probe.pt", drawn(5)), num_heads=4).classifier()
    assert not probe.training
    assert not any(weight.requires_grad for weight in probe.parameters())


def test_anticipating_probes_answer_three_questions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = AnticipationClassifier(CONFIG, 3, 4, 5).eval()
    file = open_probe(write(tmp_path / "ek100.pt", original), num_heads=4)
    assert (file.kind, file.classes) == ("anticipation", (3, 4, 5))
    tokens = torch.randn(2, 9, 48)
    with torch.no_grad():
        for found, expected in zip(file.anticipator()(tokens), original(tokens), strict=True):
            # torch 2.11 rounds the last digit of one and the same network by where its numbers lie.
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    with pytest.raises(ProbeMismatchError, match="heads for anticipation"):
        file.classifier()


def test_attention_heads_that_do_not_divide_the_width_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "probe.pt", drawn(5))
    with pytest.raises(ProbeMismatchError, match="48 channels, which do not make 7"):
        open_probe(path, num_heads=7)


def test_heads_that_differ_in_shape_are_refused(tmp_path: Path) -> None:
    file = open_probe(write(tmp_path / "probe.pt", drawn(5), drawn(6)), num_heads=4)
    with pytest.raises(CheckpointMismatchError, match=r"linear.weight: found \[6, 48\]"):
        file.classifier(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"encoder": {}}, "no list 'classifiers'"),
        ({"classifiers": []}, "no list 'classifiers'"),
        ({"classifiers": [{"module.linear.weight": torch.zeros(3, 48)}]}, "no attentive probe"),
        ({"classifiers": [{"module.x": "text"}]}, "no network"),
        ({"classifiers": [dict.fromkeys(NEEDED, torch.tensor(1.0))]}, "no attentive probe"),
        ({"classifiers": [dict.fromkeys(NEEDED, torch.zeros(0, 0))]}, "no attentive probe"),
    ],
)
def test_what_is_no_probe_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CorruptCheckpointError, match=words):
        open_probe(tmp_path / "other.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"nowhere\.pt"):
        open_probe(tmp_path / "nowhere.pt")


class Harmful:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_file_that_wants_to_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"classifiers": [Harmful()]}, tmp_path / "bad.pt", pickle_module=pickle)
    with pytest.raises(UnsafeCheckpointError):
        open_probe(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()
