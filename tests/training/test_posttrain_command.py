"""Post-training, caches and costs from the command line, on simulated and on real recordings."""

import pytest
import torch
import yaml
from safetensors.torch import save_file

from models.checkpoint import load_world_model
from models.model_folder import save_encoder
from models.timm_encoder import import_timm
from training.__main__ import main
from training.errors import ConfigurationError, DataError
from training.log import read_table
from training.posttrain_command import load_networks
from training.recordings import open_recordings

DROID = "data/droid_raw"
ROW_S = 0.2  # what was published keeps 5 rows a second


@pytest.fixture
def encoder_folder(encoder, tmp_path):
    save_encoder(encoder.network, tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def write_recipe(make_recipe, tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(make_recipe(**changes).model_dump(mode="json")))
        return str(path)

    return write


def test_a_cache_is_made_verified_and_enough_by_itself(
    write_recipe, shards, encoder_folder, tmp_path, capsys
):
    recipe, latents = write_recipe(), str(tmp_path / "latents")
    sources = ["--encoder", str(encoder_folder), "--latents", latents]
    assert main(["latents", "encode", "--config", recipe, "--data", str(shards), *sources]) == 0
    assert "36 frames of 6 episodes (camera)" in capsys.readouterr().out
    assert main(["latents", "verify", latents]) == 0
    assert "every frame is as it was written" in capsys.readouterr().out
    shards.rename(tmp_path / "gone")
    output = tmp_path / "run"
    assert main(["posttrain", "--config", recipe, *sources, "--output", str(output)]) == 0
    assert load_world_model(output).config.name == "tiny"


def test_a_cache_is_refused_to_another_encoder(
    write_recipe, shards, encoder_folder, encoder, tmp_path, capsys
):
    recipe, latents = write_recipe(), str(tmp_path / "latents")
    arguments = ["--config", recipe, "--latents", latents]
    first = [*arguments, "--encoder", str(encoder_folder), "--data", str(shards)]
    assert main(["latents", "encode", *first]) == 0
    with_change = tmp_path / "other"
    encoder.network.norm.weight.data.mul_(2.0)
    save_encoder(encoder.network, with_change)
    second = [*arguments, "--encoder", str(with_change), "--output", str(tmp_path / "run")]
    assert main(["posttrain", *second]) == 1
    assert "encoder_sha256" in capsys.readouterr().err


def test_training_goes_on_from_a_world_model(write_recipe, shards, encoder_folder, tmp_path):
    recipe, first, second = write_recipe(), tmp_path / "first", tmp_path / "second"
    data = ["--config", recipe, "--data", str(shards)]
    begin = [*data, "--encoder", str(encoder_folder), "--output", str(first)]
    assert main(["posttrain", *begin]) == 0
    onward = [*data, "--start-from", str(first), "--set", "steps=0", "--output", str(second)]
    assert main(["posttrain", *onward]) == 0
    begun, made = (load_world_model(folder) for folder in (first, second))
    assert made.config == begun.config
    for name, value in begun.state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], value)


def test_a_predictor_is_trained_on_frozen_tokens_of_timm(write_recipe, shards, tmp_path):
    file, output = tmp_path / "model.safetensors", tmp_path / "run"
    network = import_timm().create_model("test_vit", num_classes=1000)
    save_file(network.state_dict(), file)
    predictor = {
        "grid_size": [2, 2],
        "embed_dim": 64,
        "predictor_embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
    }
    recipe = write_recipe(predictor=predictor)
    sources = ["--data", str(shards), "--encoder", f"timm:test_vit={file}"]
    sources += ["--latents", str(tmp_path / "latents")]
    assert main(["posttrain", "--config", recipe, *sources, "--output", str(output)]) == 0
    made = load_world_model(output)
    assert made.config.encoder.timm_model == "test_vit"
    trained = made.encoder.network.state_dict()
    for name, value in network.state_dict().items():
        if name.startswith("blocks."):
            assert torch.equal(trained[name], value.half().float())  # the stored type


def test_a_run_without_encoder_or_data_says_what_to_give(
    make_recipe, write_recipe, tmp_path, capsys
):
    with pytest.raises(ConfigurationError, match="--encoder"):
        load_networks(make_recipe())
    output = ["--output", str(tmp_path / "run")]
    assert main(["posttrain", "--config", write_recipe(), *output]) == 1
    assert "--start-from" in capsys.readouterr().err


def test_data_of_no_known_kind_are_refused(write_recipe, encoder_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["--data", str(tmp_path / "empty"), "--encoder", str(encoder_folder)]
    arguments += ["--set", "data.row_period_s=0.2", "--output", str(tmp_path / "run")]
    assert main(["posttrain", "--config", write_recipe(), *arguments]) == 1
    assert "empty" in capsys.readouterr().err


def test_the_cost_of_recipes_is_printed(capsys):
    recipe = "configs/training/droid_posttrain.yaml"
    assert main(["cost", recipe]) == 0
    printed = capsys.readouterr().out
    assert "droid_posttrain, cached" in printed
    assert "8-bit AdamW" in printed
    assert "| all 350 h | 0.265 s |" in printed


def test_costs_are_printed_outside_the_repository_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cost"]) == 0
    printed = capsys.readouterr().out
    assert "| droid_posttrain, cached |" in printed
    assert "8-bit AdamW" in printed


def test_real_recordings_are_learned_from_with_two_cameras(
    shared_dir, write_recipe, encoder_folder, tmp_path
):
    recipe = write_recipe(
        data=dict(
            row_period_s=ROW_S, strides=[5, 5], views={"left": 1.0, "wrist": 1.0}, held_out=0.25
        ),
        run=dict(device="cpu", log_every=2, save_every=4, validate_every=4),
        validation=dict(windows=4, segments=2, candidates=8, rounds=2),
    )
    arguments = ["--data", str(shared_dir / DROID), "--encoder", str(encoder_folder)]
    output = tmp_path / "run"
    assert main(["posttrain", "--config", recipe, *arguments, "--output", str(output)]) == 0
    row = read_table(output / "validation.csv")[-1]
    assert row["distance_do_nothing_m"] > 0
    assert sum(row["skipped"] for row in read_table(output / "log.csv")) == 0


def test_real_recordings_keep_their_own_clock(shared_dir):
    all_rows = open_recordings(shared_dir / DROID, ROW_S)
    half = open_recordings(shared_dir / DROID, 2 * ROW_S)
    for episode in all_rows.episodes:
        states, thinned = all_rows.states(episode), half.states(episode)
        assert len(thinned) == (len(states) + 1) // 2
        assert (thinned == states[::2]).all()
        assert set(all_rows.views(episode)) == {"left", "right", "wrist"}
    with pytest.raises(DataError, match="too sparse"):
        open_recordings(shared_dir / DROID, 1 / 15)
    with pytest.raises(ConfigurationError, match="row_period_s is needed"):
        open_recordings(shared_dir / DROID, None)


def test_frames_of_real_recordings_come_from_the_chosen_rows(shared_dir):
    import numpy as np

    full, half = (open_recordings(shared_dir / DROID, period) for period in (ROW_S, 2 * ROW_S))
    name = full.episodes[0]
    np.testing.assert_array_equal(
        half.frames(name, "left", np.array([2, 5])), full.frames(name, "left", np.array([4, 10]))
    )
