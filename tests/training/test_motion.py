"""Generated motion: only time tells the classes apart, and a probe on an encoder's tokens can read it."""

import json

import numpy as np
import pytest
import torch

from models.checkpoint import save_encoder
from models.config import EncoderConfig
from models.encoder import VisionTransformer
from training.__main__ import main
from training.diagnostics.motion_probe import CLIP, STILL, MotionSettings, judge_motion
from training.probes.motion import MotionConfig, MotionVideos, draw_scene, moving_clip

SMALL = dict(size_px=32, frames=4)


def scene(kind, seed=0):
    config = MotionConfig(scenes=(kind,), **SMALL)
    return draw_scene(config, np.random.default_rng(seed))


def frames_of(config, index):
    return MotionVideos(config).open(index).read(range(config.frames))


@pytest.mark.parametrize("kind", ["texture", "objects"])
def test_a_clip_backwards_is_a_clip_of_the_opposite_motion(kind):
    shown, start, velocity = scene(kind), np.array([3.0, 20.5]), np.array([1.25, -2.5])
    forwards = moving_clip(shown, start, velocity, 4)
    backwards = moving_clip(shown, start + 3 * velocity, -velocity, 4)
    assert np.abs(forwards[::-1].astype(int) - backwards).max() <= 1


@pytest.mark.parametrize("kind", ["texture", "objects"])
def test_whole_pixels_move_nothing_but_the_picture(kind):
    shown = scene(kind)
    here = np.zeros(2)
    if kind == "texture":
        moved = shown.at(np.array([0.0, 5.0]))
        np.testing.assert_allclose(moved, np.roll(shown.at(here), 5, axis=1), atol=1e-6)
    around = shown.at(np.array([32.0, 64.0]))  # once and twice around the torus
    np.testing.assert_allclose(around, shown.at(here), atol=1e-6)


def test_the_first_frame_does_not_know_the_class():
    # The same random numbers, another class: the same scene at the same place.
    slow, fast = (MotionConfig(samples=1, speeds=(speed,), **SMALL) for speed in (0.05, 0.2))
    np.testing.assert_array_equal(frames_of(slow, 0)[0], frames_of(fast, 0)[0])
    assert not np.array_equal(frames_of(slow, 0)[1], frames_of(fast, 0)[1])


def test_every_place_of_the_torus_is_as_likely_in_every_frame():
    # The mean position over many clips says nothing: the brightness of no pixel depends on the class.
    config = MotionConfig(samples=640, scenes=("objects",), speeds=(0.2,), **SMALL)
    videos = MotionVideos(config)
    last = np.stack([videos.open(index).read([3])[0].mean(axis=2) for index in range(640)])
    labels = np.arange(640) % 8
    spread = last.std(axis=0) / np.sqrt(80)
    for label in range(8):
        away = np.abs(last[labels == label].mean(axis=0) - last.mean(axis=0)) / spread
        assert away.mean() < 1.2  # 0.75 is expected of noise


def test_the_velocity_is_that_of_the_name():
    config = MotionConfig(size_px=100, speeds=(0.02, 0.06))
    named = dict(zip(config.classes, map(config.velocity, range(16)), strict=True))
    np.testing.assert_allclose(named["right, slow"], [0, 2], atol=1e-9)
    np.testing.assert_allclose(named["down, fast"], [6, 0], atol=1e-9)
    np.testing.assert_allclose(named["up left, fast"], [-6 / 2**0.5] * 2, atol=1e-9)


def test_clips_depend_on_seed_and_number_alone():
    config = MotionConfig(samples=4, seed=3, **SMALL)
    np.testing.assert_array_equal(frames_of(config, 2), frames_of(config, 2))
    more = config.model_copy(update={"samples": 400})
    np.testing.assert_array_equal(frames_of(more, 2), frames_of(config, 2))
    other = config.model_copy(update={"seed": 4})
    assert not np.array_equal(frames_of(other, 2), frames_of(config, 2))
    assert MotionVideos(other).identity(2) != MotionVideos(config).identity(2)


def test_stills_show_the_middle_frame_only():
    config = MotionConfig(samples=1, **SMALL)
    stills = frames_of(config.model_copy(update={"as_stills": True}), 0)
    np.testing.assert_array_equal(stills, np.repeat(frames_of(config, 0)[2:3], 4, axis=0))


def test_all_classes_have_equally_many_clips():
    videos = MotionVideos(MotionConfig(samples=64, **SMALL))
    counts = np.bincount([videos.label(index) for index in range(64)])
    assert counts.tolist() == [4] * 16


TINY = EncoderConfig(
    img_size=(32, 32), patch_size=8, num_frames=4, embed_dim=96, depth=2, num_heads=4
)


def test_a_probe_on_clips_sees_what_a_probe_on_frames_cannot():
    torch.manual_seed(0)
    settings = MotionSettings(learned=480, tuned=96, judged=192, steps=150, precision="fp32")
    network = VisionTransformer(TINY).eval()
    clip, still = (judge_motion("random", network, settings, seen) for seen in (CLIP, STILL))
    assert (clip.seen, still.seen) == (CLIP, STILL)
    assert still.interval[0] <= 1 / 16 <= still.interval[1]
    assert clip.interval[0] > still.interval[1]
    assert int(clip.confusion.sum()) == clip.total == 192
    assert int(clip.confusion.diagonal().sum()) == clip.correct


def test_the_command_prints_and_writes_both_probes(tmp_path, capsys):
    torch.manual_seed(0)
    save_encoder(VisionTransformer(TINY), tmp_path / "encoder")
    arguments = ["motion", "--encoder", str(tmp_path / "encoder"), "--output", str(tmp_path)]
    small = ["--learned", "32", "--judged", "32", "--steps", "4", "--out-layers", "0", "1"]
    assert main([*arguments, *small]) == 0
    assert STILL in capsys.readouterr().out
    written = json.loads((tmp_path / "motion.json").read_text())
    assert [(s["tokens"], s["seen"]) for s in written["scores"]] == [
        ("encoder", CLIP),
        ("encoder", STILL),
        ("random weights", CLIP),
    ]
    assert "confusion matrix" in (tmp_path / "motion.html").read_text()


def test_blocks_that_are_not_there_are_refused(tmp_path, capsys):
    save_encoder(VisionTransformer(TINY), tmp_path / "encoder")
    arguments = ["motion", "--encoder", str(tmp_path / "encoder"), "--out-layers", "2"]
    assert main(arguments) == 1
    assert "blocks are 0 to 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_encoder_sees_motion():
    from models.checkpoint import load_encoder

    network = load_encoder("models/shipped")
    clip, still = (
        judge_motion("shipped", network, MotionSettings(), seen) for seen in (CLIP, STILL)
    )
    assert still.interval[0] <= 1 / 16 <= still.interval[1]
    assert clip.interval[0] > 3 * still.interval[1]
