"""The cost model: equal to what is counted, and right about the published networks."""

from pathlib import Path

import pytest

from models.config import vit_giant_xformers
from training.cache_cost import cache_cost
from training.config import load_recipe
from training.cost import (
    ClipBatches,
    activation_bytes,
    encoder_flops,
    parameters,
    posttraining_cost,
    pretraining_cost,
)
from training.cost_check import check_all
from training.cost_report import quantity
from training.posttrain_config import PosttrainConfig

RECIPES = Path(__file__).parents[2] / "configs" / "training"


def droid(*changes):
    return load_recipe(RECIPES / "droid_posttrain.yaml", PosttrainConfig, changes)


@pytest.fixture(scope="module")
def checks():
    return {check.what: check for check in check_all()}


def test_operations_are_those_that_are_counted(checks):
    counted = [check for check in checks.values() if check.unit == "FLOP"]
    assert len(counted) == 5
    for check in counted:
        assert check.ratio == pytest.approx(1.0, abs=0.01), check.what


def test_memory_and_storage_are_near_what_is_measured(checks):
    sizes = [check for check in checks.values() if check.unit == "B"]
    assert len(sizes) >= 4
    for check in sizes:
        slack = 0.25 if "activations" in check.what else 0.03
        assert check.ratio == pytest.approx(1.0, abs=slack), check.what


def test_the_published_networks_have_the_published_sizes():
    recipe = droid()
    assert parameters(recipe.encoder) == pytest.approx(1.01e9, rel=0.01)
    assert parameters(recipe.predictor) == pytest.approx(305e6, rel=0.01)


def test_a_cache_takes_the_encoder_out_of_the_update_and_off_the_card():
    live, cached = (posttraining_cost(droid(), cached=cached) for cached in (False, True))
    encoder = droid().encoder
    saved = 8 * 256 * encoder_flops(encoder, 256)
    assert live.flops_per_update - cached.flops_per_update == pytest.approx(saved)
    assert live.held - cached.held == parameters(encoder)
    assert live.checkpoint_bytes == cached.checkpoint_bytes  # the encoder is in neither


def test_every_saving_of_memory_saves_some():
    path = RECIPES / "droid_finetune_24gb.yaml"
    kept, recomputed, eight_bit, low_rank = (
        posttraining_cost(load_recipe(path, PosttrainConfig, changes), cached=True)
        for changes in (
            ["optimiser.kind=adamw", "run.checkpoint_activations=false"],
            ["optimiser.kind=adamw"],
            [],
            ["lora.rank=16", "start_from=x"],
        )
    )
    assert recomputed.activation_bytes < 0.2 * kept.activation_bytes
    assert recomputed.flops_per_update > kept.flops_per_update
    assert eight_bit.state_bytes < 0.7 * recomputed.state_bytes
    assert low_rank.state_bytes < 0.6 * eight_bit.state_bytes
    assert low_rank.trained < 0.1 * eight_bit.trained


def test_low_rank_parameters_are_counted_as_peft_makes_them(make_recipe):
    pytest.importorskip("bitsandbytes")
    from models.ac_predictor import ACPredictor
    from training.lora import add_lora

    recipe = make_recipe(lora=dict(rank=2))
    predictor = ACPredictor(recipe.predictor)
    add_lora(predictor, recipe.lora)
    trained = sum(p.numel() for p in predictor.parameters() if p.requires_grad)
    assert posttraining_cost(recipe, cached=True).trained == trained


def test_the_cache_of_a_cache_is_frames_times_tokens_times_channels():
    cost = cache_cost(vit_giant_xformers(), duration_s=3600, row_period_s=0.25, views=3)
    assert cost.frames == 3 * 4 * 3600
    assert cost.size_bytes == cost.frames * 256 * 1408 * 2


def test_stages_of_a_pretraining_add_up():
    encoder, predictor = vit_giant_xformers(), droid_mask_predictor()
    short = ClipBatches(16, (256, 256), 4, 10)
    long = ClipBatches(64, (384, 384), 2, 5)
    both = pretraining_cost(encoder, predictor, [short, long])
    parts = [pretraining_cost(encoder, predictor, [stage]) for stage in (short, long)]
    assert both.flops == pytest.approx(sum(part.flops for part in parts))
    assert both.updates == 15
    assert both.activation_bytes == parts[1].activation_bytes


def droid_mask_predictor():
    from models.config import MaskPredictorConfig

    return MaskPredictorConfig(embed_dim=1408)


def test_recomputing_keeps_one_block_and_the_inputs_of_the_others():
    config = droid().predictor
    kept = activation_bytes(config, 100, checkpointed=False)
    recomputed = activation_bytes(config, 100, checkpointed=True)
    assert recomputed == pytest.approx(kept / 24 + 2 * 100 * 24 * 1024)


def test_quantities_are_short():
    assert [quantity(v) for v in (0, 999, 1000, 1.5e12, 2.31e20)] == [
        "0 ",
        "999 ",
        "1 k",
        "1.5 T",
        "231 E",
    ]
