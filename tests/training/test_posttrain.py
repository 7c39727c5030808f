"""Post-training: it learns what can be learned, continues exactly, and refuses what does not fit."""

import shutil
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from models.ac_predictor import ACPredictor
from models.checkpoint import load_world_model
from models.config import ACPredictorConfig, EncoderConfig
from models.encoder import VisionTransformer
from models.errors import MissingDependencyError
from models.weights import frozen
from training.distributed import World
from training.episodes import CachedEpisodes, LiveEpisodes
from training.errors import ConfigurationError, DivergedError
from training.input_scale import scale_inputs
from training.latents import FrameEncoder, encode_recordings
from training.log import read_table
from training.loop import train
from training.lora import add_lora, merge_lora
from training.optimiser import build_optimiser
from training.posttrain import Posttraining
from training.posttrain_config import LoRAConfig
from training.recordings import open_recordings
from training.run_folder import open_run_folder
from training.windows import WindowSampler, WindowSettings

CPU = torch.device("cpu")
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


@pytest.fixture
def linear_encoder():
    """An encoder of the right shape beside tokens that it did not make."""
    config = EncoderConfig(img_size=(32, 32), embed_dim=24, depth=1, num_heads=2, num_frames=2)
    return FrameEncoder(frozen(VisionTransformer(config)))


@pytest.fixture
def linear_recipe(make_recipe, make_predictor):
    def build(**changes):
        predictor = make_predictor().config.model_dump()
        return make_recipe(**{"predictor": predictor, **changes})

    return build


def run(training, recipe, folder):
    world = World()
    return train(training, recipe, open_run_folder(folder, "posttrain", recipe, world), world)


def test_one_window_is_learned_by_heart(linear_episodes, linear_encoder, linear_recipe, tmp_path):
    recipe = linear_recipe(
        data=dict(strides=[1, 1]),
        loss=dict(context_frames=1, rollout_steps=2),
        steps=200,
        batch_size=1,
        optimiser=dict(
            learning_rate=dict(kind="cosine", peak=1e-2, warmup_steps=10),
            weight_decay=dict(start=0.0, final=0.0),
        ),
        run=dict(device="cpu", precision="fp32", log_every=200, save_every=200),
    )
    data = linear_episodes(episodes=1, length=3)
    training = Posttraining(recipe, linear_encoder, data, CPU)
    windows = training.source(0, 0)
    before = float(training.network(windows)[0].detach())
    run(training, recipe, tmp_path / "run")
    after = float(training.network(windows)[0].detach())
    assert after < 0.03 * before


def test_what_is_learned_holds_for_other_episodes_and_for_planning(
    linear_episodes, linear_encoder, linear_recipe, tmp_path
):
    recipe = linear_recipe(
        data=dict(strides=[1, 2], held_out=0.3),
        loss=dict(context_frames=1, rollout_steps=2, rollout_every=4),
        steps=250,
        batch_size=32,
        optimiser=dict(learning_rate=dict(kind="cosine", peak=5e-3, warmup_steps=10)),
        run=dict(device="cpu", log_every=50, save_every=250, validate_every=125),
        validation=dict(windows=32, segments=8, candidates=64, rounds=3),
        max_gripper=0.0,
    )
    run(
        Posttraining(recipe, linear_encoder, linear_episodes(episodes=40), CPU),
        recipe,
        tmp_path / "run",
    )
    row = read_table(tmp_path / "run" / "validation.csv")[-1]
    assert row["teacher_forcing"] < 0.5 * row["no_change"]
    assert row["distance_m"] < 0.7 * row["distance_do_nothing_m"]
    assert row["selection"] == row["distance_m"]


@pytest.fixture
def cached(encoder, shards, tmp_path):
    recordings = open_recordings(shards, None)
    return CachedEpisodes(encode_recordings(encoder, recordings, tmp_path / "latents"))


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_a_continued_run_ends_as_the_uninterrupted_one(
    encoder, cached, make_recipe, tmp_path, kind
):
    if kind != "adamw":
        pytest.importorskip("bitsandbytes")
    recipe = make_recipe(
        steps=6,
        optimiser=dict(kind=kind, learning_rate=dict(kind="wsd", peak=3e-3, warmup_steps=1)),
        run=dict(device="cpu", log_every=1, save_every=2, keep_last=5),
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(Posttraining(recipe, encoder, cached, CPU), recipe, whole)
    shutil.copytree(whole, cut)
    for step in (4, 6):
        shutil.rmtree(cut / "checkpoints" / f"step-{step:08d}")
    (cut / "model.safetensors").unlink()
    run(Posttraining(recipe, encoder, cached, CPU), recipe, cut)
    losses = [[row["loss"] for row in read_table(path / "log.csv")] for path in (whole, cut)]
    assert losses[0] == losses[1]
    first, second = (load_world_model(path).state_dict() for path in (whole, cut))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)


def test_the_encoder_learns_nothing(encoder, shards, make_recipe, tmp_path):
    recipe = make_recipe()
    before = encoder.sha256()
    training = Posttraining(recipe, encoder, LiveEpisodes(open_recordings(shards, None)), CPU)
    assert not any(name.startswith("encoder") for name, _ in training.network.named_parameters())
    run(training, recipe, tmp_path / "run")
    assert encoder.sha256() == before
    saved = load_world_model(tmp_path / "run").encoder
    for name, value in encoder.network.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_a_model_without_state_token_is_trained_and_saved(encoder, cached, make_recipe, tmp_path):
    predictor = make_recipe().predictor.model_dump()
    recipe = make_recipe(predictor={**predictor, "use_state": False})
    assert run(Posttraining(recipe, encoder, cached, CPU), recipe, tmp_path / "run").is_finished
    assert not load_world_model(tmp_path / "run").config.predictor.use_state


def test_no_updates_keep_the_initial_weights(encoder, cached, make_recipe, tmp_path):
    recipe = make_recipe(steps=0)
    training = Posttraining(recipe, encoder, cached, CPU)
    weight = training.network.predictor.predictor_embed.weight.detach().clone()
    run(training, recipe, tmp_path / "run")
    saved = load_world_model(tmp_path / "run").predictor.predictor_embed.weight
    torch.testing.assert_close(saved, weight, atol=1e-3, rtol=1e-3)


def test_rollouts_come_every_nth_update_with_longer_windows(cached, encoder, make_recipe):
    recipe = make_recipe(loss=dict(context_frames=1, rollout_steps=3, rollout_every=2))
    source = Posttraining(recipe, encoder, cached, CPU).source
    lengths = [source(step, 0).tokens.shape[1] for step in range(4)]
    assert lengths == [4, 2, 4, 2]
    assert [source(step, 0).with_rollout for step in range(2)] == [True, False]


@needs_peft
def test_low_rank_changes_leave_the_rest_alone_and_merge_into_plain_weights(
    encoder, cached, make_recipe, make_predictor, tmp_path
):
    plain = make_recipe()
    run(Posttraining(plain, encoder, cached, CPU), plain, tmp_path / "plain")
    start = load_world_model(tmp_path / "plain").predictor
    before = {name: value.clone() for name, value in start.state_dict().items()}

    recipe = make_recipe(lora=dict(rank=2, targets=["attn.qkv", "mlp.fc2"]), batch_size=2)
    training = Posttraining(recipe, encoder, cached, CPU, initial=start)
    trained = [n for n, p in training.network.named_parameters() if p.requires_grad]
    assert all("lora_" in name or "_encoder." in name for name in trained)
    run(training, recipe, tmp_path / "tuned")

    tuned = load_world_model(tmp_path / "tuned").predictor.float()
    windows = training.source(0, 0)
    tokens, n = windows.tokens.float(), 1
    inputs = (tokens[:, 0], windows.actions[:, :n], windows.states[:, :n])
    with torch.no_grad():
        torch.testing.assert_close(
            tuned(*inputs), training.network.predictor(*inputs), atol=5e-3, rtol=5e-3
        )
    changed = {
        name
        for name, value in tuned.state_dict().items()
        if not torch.allclose(value, before[name], atol=1e-3)
    }
    assert any("attn.qkv.weight" in name for name in changed)
    assert not any("mlp.fc1" in name or "norm" in name for name in changed)


@needs_peft
def test_merging_adds_the_product_of_the_factors():
    config = LoRAConfig(rank=2, alpha=6, targets=("mlp.fc1",))
    shape = ACPredictorConfig(
        grid_size=(2, 2), embed_dim=24, predictor_embed_dim=32, depth=1, num_heads=2
    )
    torch.manual_seed(0)
    network = ACPredictor(shape)
    add_lora(network, config)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    merged = ACPredictor(shape)
    merged.load_state_dict(merge_lora(network.state_dict(), config))
    inputs = (torch.randn(2, 4, 24), torch.randn(2, 1, 7), torch.randn(2, 1, 7))
    torch.testing.assert_close(merged(*inputs), network(*inputs), atol=1e-4, rtol=1e-4)


def test_low_rank_changes_of_nothing_are_refused(encoder, cached, make_recipe):
    with pytest.raises(ConfigurationError, match="start_from"):
        Posttraining(make_recipe(lora=dict(rank=2)), encoder, cached, CPU)


def test_eight_bit_state_takes_a_quarter_of_the_memory(make_recipe):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    sizes = {}
    for kind in ("adamw", "adamw8bit"):
        network = torch.nn.Linear(256, 256)
        config = make_recipe(
            optimiser=dict(kind=kind, learning_rate=dict(kind="wsd", peak=1e-3))
        ).optimiser
        optimiser = build_optimiser(network, config)
        network(torch.randn(4, 256)).square().mean().backward()
        optimiser.step()
        state = optimiser.state[network.weight]
        sizes[kind] = sum(v.nbytes for v in state.values() if torch.is_tensor(v) and v.ndim)
    assert sizes["adamw8bit"] < 0.3 * sizes["adamw"]


def test_an_eight_bit_optimiser_without_its_library_says_what_to_install(make_recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    config = make_recipe(
        optimiser=dict(kind="paged_adamw8bit", learning_rate=dict(kind="wsd", peak=1e-3))
    ).optimiser
    with pytest.raises(MissingDependencyError, match=r"pip install 'vjepa-planner\[finetune\]'"):
        build_optimiser(torch.nn.Linear(4, 4), config)


def test_another_encoder_than_the_recipe_names_is_refused(encoder, cached, make_recipe):
    other = encoder.network.config.model_dump()
    recipe = make_recipe(encoder={**other, "depth": 3})
    with pytest.raises(ConfigurationError, match="depth is 1"):
        Posttraining(recipe, encoder, cached, CPU)


def test_an_encoder_of_another_width_is_refused(linear_encoder, cached, make_recipe):
    with pytest.raises(ConfigurationError, match="24 channels"):
        Posttraining(make_recipe(), linear_encoder, cached, CPU)


def test_an_encoder_of_another_rotary_flavour_is_refused(cached, make_recipe, encoder):
    config = encoder.network.config.model_copy(update={"rope": "vjepa2_1"})
    other = FrameEncoder(frozen(VisionTransformer(config)))
    with pytest.raises(ConfigurationError, match="flavours do not mix"):
        Posttraining(make_recipe(), other, cached, CPU)


def test_a_start_of_another_shape_is_refused(encoder, cached, make_recipe, make_predictor):
    with pytest.raises(ConfigurationError, match="differs from the recipe's in"):
        Posttraining(make_recipe(), encoder, cached, CPU, initial=make_predictor())


def test_rows_of_another_period_are_refused(encoder, cached, make_recipe):
    with pytest.raises(ConfigurationError, match="use a stride of 5 rows"):
        Posttraining(make_recipe(control_period_s=5.0), encoder, cached, CPU)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(loss=dict(rollout_steps=1)), "teacher forcing"),
        (
            dict(loss=dict(context_frames=1, context="second_target_as_first_published")),
            "2 or more",
        ),
        (dict(loss=dict(context_frames=40)), "40 frames"),
        (dict(data=dict(strides=[3, 1])), "must rise"),
        (dict(run=dict(validate_every=1)), "held_out"),
        (dict(learning_rate=1e-3), "learning_rate"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(make_recipe, changes, reason):
    with pytest.raises(ValueError, match=reason):
        make_recipe(**changes)


def test_scaled_inputs_have_unit_variance(make_predictor, linear_episodes):
    data = linear_episodes()
    states = np.concatenate([data.states(name) for name in data.episodes])
    for predictor in (make_predictor(), make_predictor(use_state=False)):
        scale_inputs(predictor, torch.from_numpy(states).float(), action_scale_m=0.05)
        actions = torch.zeros(1000, 7)
        actions[:, :3] = 0.05 * torch.randn(1000, 3)
        assert 0.2 < float(predictor.action_encoder(actions).detach().std()) < 2.0


def test_a_loss_that_is_no_number_names_its_windows(
    linear_episodes, linear_encoder, linear_recipe, tmp_path
):
    data = linear_episodes(episodes=1)
    data._offset = data._offset * float("nan")
    recipe = linear_recipe()
    training = Posttraining(recipe, linear_encoder, data, CPU)
    weight = training.network.predictor.predictor_embed.weight.detach().clone()
    with pytest.raises(DivergedError, match="000, view camera, row"):
        run(training, recipe, tmp_path / "run")
    torch.testing.assert_close(training.network.predictor.predictor_embed.weight, weight)


def test_windows_of_two_lengths_share_an_index_where_they_can(cached, encoder, make_recipe):
    recipe = make_recipe(loss=dict(context_frames=2, rollout_steps=2))
    source = Posttraining(recipe, encoder, cached, CPU).source
    plain = WindowSampler(cached, cached.episodes, WindowSettings(3, (1, 2)))
    assert len(source) == len(plain)
