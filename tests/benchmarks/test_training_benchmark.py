"""The training benchmark compares like with like: every way starts with the same loss."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import training
from benchmarks.fine_tuning import FINE_TUNING, SAVINGS
from benchmarks.training_sizes import published, small
from benchmarks.training_ways import PUBLISHED, WAYS, Row, measure
from models.config import ACPredictorConfig, EncoderConfig, MaskPredictorConfig

CPU = torch.device("cpu")


@pytest.fixture
def size():
    encoder = EncoderConfig(
        img_size=(32, 32), patch_size=8, num_frames=8, embed_dim=48, depth=2, num_heads=2
    )
    return replace(
        small(),
        encoder=encoder,
        predictor=ACPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=48, depth=2, num_heads=2
        ),
        windows=2,
        fine_tuned=ACPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=48, depth=4, num_heads=2
        ),
        pretrained=encoder,
        mask_predictor=MaskPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2
        ),
        clips=2,
    )


@pytest.mark.parametrize("work", ["posttrain", "pretrain"])
def test_all_ways_begin_with_the_same_loss(work, size):
    rows = [measure(work, way, size, 0.0, CPU) for way in WAYS[work]]
    for row in rows[1:]:
        assert row.first_loss == pytest.approx(rows[0].first_loss, rel=2e-3)
    assert all(row.step_s > 0 and row.updates >= 1 and row.flops > 0 for row in rows)


def test_fine_tuning_is_predicted_to_take_less_with_every_saving(size):
    rows = [measure(FINE_TUNING, way, size, 0.0, CPU) for way in list(SAVINGS)[:2]]
    assert rows[1].first_loss == pytest.approx(rows[0].first_loss, rel=1e-3)
    assert 0 < rows[1].predicted_bytes < rows[0].predicted_bytes


def test_the_published_sizes_are_the_published_ones():
    size = published()
    assert (size.encoder.embed_dim, size.predictor.depth, size.pretrained.depth) == (1408, 24, 24)


def test_loading_is_measured_for_every_source(size):
    rates = list(training.measure_loading(size, 0.05))
    assert len({rate.what for rate in rates}) == 3
    assert all(rate.samples_per_s > 0 and rate.bytes_per_s > 0 for rate in rates)


def test_tables_and_results_are_written(size, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "small", lambda: size)
    output = tmp_path / "training.json"
    arguments = ["--only", "loading", "--budget", "0.1", "--output", str(output)]
    assert training.main(arguments) == 0
    document = json.loads(output.read_text())
    assert {"hardware", "versions", "load_before", "loading"} <= document.keys()
    rows = [
        Row("posttrain", PUBLISHED, 2.0, 3, 2**20, 1.0, 1e9),
        Row("posttrain", "ours", 1.0, 3, 2**20, 1.0, 1e9),
    ]
    training.print_tables(rows, [], [], "NVIDIA H100 80GB HBM3")
    printed = capsys.readouterr().out
    assert "2.00" in printed
    assert "0.0%" in printed
