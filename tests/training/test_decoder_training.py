"""Training of the decoder: it learns to draw, keeps the encoder, and leaves pictures to look at."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.decoder import load_decoder, read_description
from models.errors import MissingDependencyError
from models.model_folder import save_encoder
from training.__main__ import main
from training.config import dump_recipe
from training.decoder import SAMPLES_FILE, DecoderTraining, DecoderTrainingConfig
from training.distributed import World
from training.episodes import LiveEpisodes
from training.frames import Frames
from training.log import read_table
from training.loop import train
from training.perceptual import TokenDistance, build_perceptual_loss
from training.recordings import open_recordings
from training.run_folder import open_run_folder


def recipe_of(**changes):
    values = dict(
        decoder=dict(decoder_embed_dim=32, depth=1, num_heads=2),
        steps=60,
        batch_size=8,
        optimiser=dict(learning_rate=dict(kind="cosine", peak=1e-2, warmup_steps=5)),
        run=dict(device="cpu", log_every=20, save_every=60, validate_every=30),
        validation_frames=12,
    )
    return DecoderTrainingConfig.model_validate({**values, **changes})


@pytest.fixture
def data(shards):
    return LiveEpisodes(open_recordings(shards, None))


@pytest.mark.parametrize("perceptual", ["none", "encoder"])
def test_pictures_get_closer_to_the_frames(encoder, data, tmp_path, perceptual):
    recipe = recipe_of(perceptual=perceptual)
    world = World()
    before = encoder.sha256()
    training = DecoderTraining(recipe, encoder, data)
    train(training, recipe, open_run_folder(tmp_path / "run", "decoder", recipe, world), world)
    first, last = read_table(tmp_path / "run" / "validation.csv")
    assert last["pixels"] < first["pixels"] < 0.2
    assert encoder.sha256() == before
    assert read_description(tmp_path / "run").metadata["encoder_sha256"] == before

    picture = np.asarray(Image.open(tmp_path / "run" / SAMPLES_FILE))
    assert picture.shape == (64, 8 * 32, 3)
    true, drawn = picture[:32].astype(float), picture[32:].astype(float)
    assert np.abs(true - drawn).mean() < np.abs(true - true.mean(axis=(0, 1))).mean()
    assert load_decoder(tmp_path / "run").draw(torch.zeros(1, 16, 48)).shape == (1, 32, 32, 3)


def test_truth_is_what_the_encoder_sees(encoder, data):
    network = DecoderTraining(recipe_of(), encoder, data).network
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(
        network.true_pixels(frames), frames.permute(0, 3, 1, 2) / 255, atol=1e-5, rtol=1e-5
    )


def test_equal_pictures_look_alike_to_the_encoder(encoder, data):
    network = DecoderTraining(recipe_of(), encoder, data).network
    frames = data.read(data_places(data)).frames.flatten(0, 1)
    pixels = network.true_pixels(frames)
    distance = TokenDistance(encoder)
    tokens = encoder.encode(frames)
    same = float(distance(pixels, pixels, tokens))
    other = float(distance(pixels.roll(4, dims=-1), pixels, tokens))
    assert same < 0.02
    assert other > 5 * same


def data_places(data):
    from training.episodes import Place

    return [Place(data.episodes[0], "camera", np.arange(4))]


def test_gradients_reach_the_pixels_and_not_the_encoder(encoder):
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    frames = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    TokenDistance(encoder)(pixels, pixels, encoder.encode(frames)).backward()
    assert pixels.grad.abs().sum() > 0
    assert all(p.grad is None for p in encoder.network.parameters())


def test_lpips_without_its_package_says_what_else_there_is(encoder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingDependencyError, match="pip install lpips, or use `encoder`"):
        build_perceptual_loss("lpips", encoder, torch.device("cpu"))


def test_the_command_plans_a_decoder_and_trains_it(encoder, shards, tmp_path, capsys):
    save_encoder(encoder.network, tmp_path / "encoder")
    recipe = recipe_of(steps=2, token_noise=0.1, run=dict(device="cpu", log_every=1, save_every=2))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    command = ["decoder", "--config", str(tmp_path / "recipe.yaml")]
    output = ["--output", str(tmp_path / "run")]
    assert main([*command, *output, "--data", str(shards)]) == 1
    assert "a decoder needs --encoder" in capsys.readouterr().err
    command += ["--encoder", str(tmp_path / "encoder")]
    assert main([*command, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "2 of 8 frames" in plan
    assert main([*command, *output, "--data", str(shards)]) == 0
    count = sum(p.numel() for p in load_decoder(tmp_path / "run").parameters())
    assert f"parameters        {count:,}," in plan


def test_noise_on_the_tokens_is_for_learning_only(encoder, data):
    network = DecoderTraining(recipe_of(token_noise=5.0), encoder, data).network
    batch = Frames(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    quiet = [network.eval()(batch)[0].item() for _ in range(2)]
    noisy = [network.train()(batch)[0].item() for _ in range(2)]
    assert quiet[0] == quiet[1]
    assert len({*quiet, *noisy}) == 3
