"""Masked prediction: the published loss, the moving average, and what the options promise."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError

from models.config import EncoderConfig, MaskPredictorConfig
from models.published import published_state, read_published
from training.clips import ClipBatch, ClipGroup, ClipSource
from training.collapse import CollapseWatch, temporal_diversity, token_rank, token_std
from training.pretrain import MaskedPrediction, context_weight, distance_weights
from training.pretrain_config import ContextLoss, PretrainConfig


@pytest.fixture
def recipe(shards, pretrain_values):
    def build(**changes):
        return PretrainConfig.model_validate(pretrain_values(shards, **changes))

    return build


def network_of(config):
    torch.manual_seed(0)
    return MaskedPrediction(config)


def golden_recipe(shared_dir, pretrain_values, index):
    encoder = index["files"]["ac_checkpoint.pt"]["encoder"]
    predictor = index["files"]["mask_predictor.pt"]["predictor"]
    known = set(EncoderConfig.model_fields)
    return PretrainConfig.model_validate(
        pretrain_values(
            "unused",
            encoder={key: value for key, value in encoder.items() if key in known},
            predictor=dict(
                grid_size=[4, 4],
                **{
                    k: v for k, v in predictor.items() if k in set(MaskPredictorConfig.model_fields)
                },
            ),
            data=dict(clips=dict(kind="episodes", frames=8)),
            placeholder="mask",
        )
    )


def test_the_loss_equals_the_reference(shared_dir, pretrain_values):
    import json

    index = json.loads((shared_dir / "golden" / "index.json").read_text())
    network = MaskedPrediction(golden_recipe(shared_dir, pretrain_values, index))
    checkpoint = read_published(shared_dir / "golden" / "ac_checkpoint.pt")
    golden = torch.load(shared_dir / "golden" / "mask_predictor.pt", weights_only=True)
    path = shared_dir / "golden" / "mask_predictor.pt"
    encoder = published_state(checkpoint, "encoder", path)
    network.encoder.load_state_dict(encoder)
    network.target.load_state_dict(encoder)
    network.predictor.load_state_dict(published_state({"p": golden["state_dict"]}, "p", path))
    # The second placeholder is used: an empty first mask family stands before it.
    keep, hidden = golden["context_ids"], golden["target_ids"]
    group = ClipGroup(golden["clip"], (keep, keep), (hidden, hidden), order=0)
    losses = []
    for number in (0, 1):
        _, predicted = network._predict(group, number)
        goal = torch.nn.functional.layer_norm(network.target(golden["clip"]), (128,))
        wanted = goal.gather(1, hidden.unsqueeze(-1).expand(-1, -1, 128))
        losses.append(network._distance(predicted, wanted).mean())
    torch.testing.assert_close(losses[1], golden["loss_l1"], rtol=1e-5, atol=1e-6)
    whole, _ = network(ClipBatch(groups=(group,), step=0, is_monitored=False))
    torch.testing.assert_close(whole, torch.stack(losses).mean())


def test_the_loss_is_averaged_over_lengths_and_masks(recipe):
    config = recipe()
    network = network_of(config)
    source = ClipSource(config)
    batch = next(b for b in (source(step, 0) for step in range(20)) if len(b.groups) == 2)
    whole, _ = network(batch)
    parts = [
        network(ClipBatch(groups=(group,), step=0, is_monitored=False))[0] for group in batch.groups
    ]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_the_average_follows_the_encoder(recipe):
    network = network_of(recipe())
    before = copy.deepcopy(network.target.state_dict())
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.add_(1.0)
    network.average(0.75)
    for name, value in network.target.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.25)


def test_gradients_reach_encoder_and_predictor_but_not_the_target(recipe):
    config = recipe()
    network = network_of(config)
    network(ClipSource(config)(0, 0))[0].backward()
    assert all(p.grad is None for p in network.target.parameters())
    assert all(p.grad is not None for p in network.encoder.parameters())


def test_one_clip_and_a_target_that_stands_still_are_learned_by_heart(recipe, shards):
    config = recipe(
        batch_size=1,
        micro_batch_size=1,
        data=dict(clips=dict(kind="episodes", path=str(shards), frames=2)),
        masks=[dict(kind="blocks", blocks=1, scale=0.3)],
        predictor=dict(
            grid_size=[4, 4], embed_dim=48, predictor_embed_dim=96, depth=2, num_heads=4
        ),
    )
    network = network_of(config)
    batch = ClipSource(config)(0, 0)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=2e-3, weight_decay=0.0, fused=True)
    losses = []
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * step / 150)) / 2
        loss, _ = network(batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 0.1)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


def test_visible_tokens_are_predicted_too_when_asked(recipe):
    config = recipe(context_loss=dict(weight=0.5, warmup_start=0, warmup_end=10))
    network = network_of(config)
    batch = ClipSource(config)(5, 0)
    loss, values = network(batch)
    expected = values["hidden_loss"] + 0.25 * values["visible_loss"]
    torch.testing.assert_close(loss, expected)
    plain, _ = network_of(recipe())(batch)
    torch.testing.assert_close(values["hidden_loss"], plain)


def test_visible_tokens_weigh_alike_when_distance_shall_not_count(recipe):
    alike = recipe(context_loss=dict(weight=0.5, by_distance=False))
    network = network_of(alike)
    batch = ClipSource(alike)(0, 0)
    whole = []
    distance = network._distance
    network._distance = lambda *tokens: (whole.append(distance(*tokens)), whole[-1])[1]
    loss, values = network(batch)
    visible = torch.stack([per_token.mean() for per_token in whole[1::2]]).mean()
    torch.testing.assert_close(values["visible_loss"], visible)
    torch.testing.assert_close(loss, values["hidden_loss"] + 0.5 * visible)
    _, nearest = network_of(recipe(context_loss=dict(weight=0.5)))(batch)
    assert nearest["visible_loss"] < values["visible_loss"]


def test_visible_tokens_near_hidden_ones_weigh_most():
    # One row of four tokens per tubelet; token 3 of the first tubelet is hidden.
    keep = torch.tensor([[0, 1, 2, 7]])
    weights = distance_weights(keep, torch.tensor([[3]]), rows=1, columns=4)
    expected = torch.tensor([[3.0, 2.0, 1.0, 1.0]]).rsqrt()
    torch.testing.assert_close(weights, expected)


def test_the_weight_of_visible_tokens_grows_between_two_updates():
    config = ContextLoss(weight=0.5, warmup_start=10, warmup_end=20)
    assert [context_weight(config, step) for step in (0, 10, 15, 20, 99)] == [0, 0, 0.25, 0.5, 0.5]
    assert context_weight(ContextLoss(weight=0.5), 0) == 0.5


def test_all_levels_of_a_hierarchical_encoder_can_be_predicted(recipe, pretrain_values, shards):
    values = pretrain_values(shards)
    config = recipe(
        targets="levels",
        encoder={
            **values["encoder"],
            "norm_layers": [0, 1],
            "rope": "vjepa2_1",
            "separate_images": True,
        },
        predictor={**values["predictor"], "embed_dim": 96, "rope": "vjepa2_1"},
    )
    network = network_of(config)
    loss, _ = network(ClipSource(config)(0, 0))
    assert loss.isfinite()


def test_an_exponent_of_two_is_half_the_squared_distance(recipe):
    network = network_of(recipe(loss_exponent=2.0))
    distance = network._distance(torch.full((1, 1, 4), 3.0), torch.zeros(1, 1, 4))
    assert distance.item() == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(stages=[dict(steps=2, img_size=[30, 30])]), "do not divide"),
        (dict(stages=[dict(steps=2, micro_batch_size=3)]), "does not divide 8"),
        (dict(micro_batch_size=3), "does not divide batch_size 8"),
        (dict(data=dict(a=dict(kind="csv", frames=3))), "no tubelets"),
        (dict(data=dict(a=dict(kind="csv", frames=4, fps=4, frame_step=2))), "not both"),
        (dict(masks=[dict(kind="future")]), "masks over time"),
        (dict(targets="levels"), "norm_layers"),
        (dict(learnign_rate=1), "learnign_rate"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(recipe, change, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**change)


def test_stages_change_resolution_length_and_groups(recipe):
    config = recipe(
        stages=[
            dict(steps=2, img_size=[16, 16], frames=2),
            dict(steps=1, micro_batch_size=4),
        ]
    )
    source = ClipSource(config)
    shapes = [
        {tuple(g.clip.shape[2:]) for b in range(config.groups(s)) for g in source(s, b).groups}
        for s in range(4)
    ]
    assert shapes[0] | shapes[1] == {(2, 16, 16)}
    assert shapes[2] | shapes[3] == {(2, 32, 32), (4, 32, 32)}
    assert [config.groups(step) for step in range(4)] == [4, 4, 2, 2]
    network = network_of(config)
    assert all(network(source(step, 0))[0].isfinite() for step in (0, 2))


def test_signs_of_collapse_tell_good_tokens_from_bad_ones():
    torch.manual_seed(0)
    good = torch.randn(8, 4 * 16, 48)
    flat = torch.randn(1, 1, 48).expand(8, 64, 48)
    still = torch.randn(8, 1, 16, 48).expand(-1, 4, -1, -1).flatten(1, 2)
    line = torch.randn(8, 64, 1) * torch.randn(48)
    assert token_std(good) > 0.9
    assert token_std(flat) < 1e-6
    assert token_rank(good) > 30
    assert token_rank(line) < 1.1
    assert temporal_diversity(good, 4) == pytest.approx(1.0, abs=0.1)
    assert temporal_diversity(still, 4) == 0.0


def test_a_sign_that_falls_away_is_reported_once():
    watch = CollapseWatch()
    good = {"token_std": 1.0, "token_rank": 40.0, "loss": 0.5}
    for _ in range(3):
        assert watch.look(good) == []
    bad = {**good, "token_std": 0.2}
    assert watch.look(bad) == []  # one odd row is none
    (warning,) = watch.look(bad)
    assert "token_std fell to 0.2 from 1" in warning
    assert watch.look(bad) == []
    for _ in range(2):
        watch.look(good)
    watch.look(bad)
    assert len(watch.look(bad)) == 1


def test_tokens_of_one_direction_are_reported():
    assert "one direction" in CollapseWatch().look({"token_rank": 1.1})[0]


def test_the_same_numbers_give_the_same_batch(recipe):
    first, again = ClipSource(recipe())(3, 1), ClipSource(recipe())(3, 1)
    assert first.names == again.names
    torch.testing.assert_close(first.groups[0].clip, again.groups[0].clip)
    others = [
        ClipSource(recipe())(4, 1),
        ClipSource(recipe())(3, 2),
        ClipSource(recipe(seed=1))(3, 1),
    ]
    assert all(
        other.names != first.names or not torch.equal(other.groups[0].clip, first.groups[0].clip)
        for other in others
    )


def test_all_groups_of_an_update_have_clips_of_the_same_lengths(recipe):
    config = recipe(batch_size=32, micro_batch_size=4)
    source = ClipSource(config)
    drawn = set()
    for step in range(6):
        shapes = {tuple(g.clip.shape for g in source(step, n).groups) for n in range(8)}
        assert len(shapes) == 1
        drawn |= shapes
    assert len(drawn) > 1
