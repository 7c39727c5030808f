"""Anticipation: when clips end, what the future's tokens are told, and the whole way."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.readouts import with_anticipated_tokens
from training.__main__ import main
from training.errors import ConfigurationError, DataError
from training.probes.anticipation import (
    Action,
    Moments,
    answerable,
    known_classes,
    read_actions,
    rows_until,
)
from training.probes.features import load_features
from training.probes.results import read_results
from training.probes.views import ClipConfig

COLUMNS = (
    "narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp",
    "verb_class", "noun_class",
)  # fmt: skip


def action(start_s=5.0, stop_s=9.0, verb=1, noun=2):
    return Action("a", "P01", "P01_01", start_s, stop_s, verb, noun)


def annotations(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return str(path)


def row(number, start, stop, verb, noun, video="P01_01"):
    times = [f"00:00:{time:05.2f}" for time in (start, stop)]
    return [f"{video}_{number}", "P01", video, *times, verb, noun]


@given(
    end_s=st.floats(-1, 30),
    length=st.integers(1, 600),
    video_fps=st.sampled_from([8.0, 25.0, 29.97, 50.0, 59.94]),
)
def test_no_frame_of_a_clip_is_shown_after_its_end(end_s, length, video_fps):
    clips = ClipConfig(frames=8, fps=8)
    rows = rows_until(end_s, length, video_fps, clips)
    assert rows.shape == (8,)
    assert 0 <= rows.min() <= rows.max() < length
    assert rows.max() / video_fps <= max(0.0, end_s)
    if rows.min() > 0 and rows.max() < length - 1:  # nothing was cut off
        assert rows[-1] == np.floor(end_s * video_fps)
        assert np.abs(np.diff(rows) - video_fps / 8).max() <= 1


def test_the_standard_protocol_ends_before_the_action_begins():
    rng = np.random.default_rng(0)
    moments = Moments("standard")
    assert moments.draw(action(), None) == (4.0, 1.0)
    for _ in range(50):
        end_s, ahead_s = moments.draw(action(), rng)
        assert end_s + ahead_s == pytest.approx(5.0)
        assert 0.25 <= ahead_s <= 1.75


def test_the_reference_protocol_counts_from_the_end_of_the_action():
    rng = np.random.default_rng(0)
    moments = Moments("reference")
    assert moments.draw(action(), None) == (8.0, 1.0)  # the action began three seconds before
    for _ in range(50):
        end_s, ahead_s = moments.draw(action(), rng)
        assert 8.0 - 1e-9 <= end_s + ahead_s <= 9.0 + 1e-9  # at most a quarter of it earlier


def test_the_future_is_asked_about_at_its_place_in_time(encoder_folder):
    encoder = load_features(str(encoder_folder), torch.device("cpu"), "fp32", predictor=True, fps=8)
    asked = []

    class Spy:
        def __call__(self, tokens, seen, future):
            asked.append((seen[0], future[0]))
            return torch.zeros(len(tokens), future[0].shape[1], tokens.shape[2])

    clips = torch.randn(1, 1, 3, 4, 32, 32)
    tokens = encoder.encode(clips)
    for ahead_s, tubelets in ((0.25, 1), (0.9, 3), (1.0, 4), (1.75, 7)):
        with_anticipated_tokens(encoder.network.config, Spy(), tokens, ahead_s, 8)
        seen, future = asked[-1]
        assert seen[0].tolist() == list(range(32))
        assert future[0].tolist() == list(range(32 + 16 * tubelets, 48 + 16 * tubelets))
    with_future = encoder.encode(clips, 1.0)
    assert with_future.shape == (1, 48, 48)
    assert torch.equal(with_future[:, :32], tokens)
    assert not torch.equal(encoder.encode(clips, 1.75)[:, 32:], with_future[:, 32:])


def test_published_predictors_are_asked_with_their_second_placeholder(encoder_folder):
    encoder = load_features(str(encoder_folder), torch.device("cpu"), "fp32", predictor=True)
    clips = torch.randn(1, 1, 3, 4, 32, 32)
    before = encoder.encode(clips, 1.0)
    with torch.no_grad():
        encoder.predictor.mask_tokens[0] += 1.0
        assert torch.equal(encoder.encode(clips, 1.0), before)
        encoder.predictor.mask_tokens[1] += 1.0
        assert not torch.equal(encoder.encode(clips, 1.0), before)


def test_classes_are_those_of_training_and_others_cannot_be_answered():
    train = [action(verb=3, noun=1), action(verb=1, noun=7), action(verb=3, noun=7)]
    classes = known_classes(train)
    assert classes.verbs == (1, 3)
    assert classes.actions == ((1, 7), (3, 1), (3, 7))
    assert answerable([action(verb=1, noun=1), train[1]], classes) == [train[1]]


def test_bad_annotations_are_named(tmp_path):
    with pytest.raises(DataError, match="no annotations"):
        read_actions("train", None)
    bad = annotations(tmp_path / "bad.csv", [row(0, 1, 2, 0, 0), row(1, 5, 2, 0, 0)])
    with pytest.raises(DataError, match=r"line 3 is no annotation: it lasts from 5.0 s to 2.0 s"):
        read_actions("train", bad)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column participant_id"):
        read_actions("train", str(tmp_path / "other.csv"))


def test_an_encoder_without_its_predictor_is_refused(clips_folder, tmp_path, encoder_folder):
    shipped = str(Path(__file__).parents[3] / "models" / "shipped")
    with pytest.raises(ConfigurationError, match="needs the predictor"):
        load_features(shipped, torch.device("cpu"), "fp32", predictor=True)


@pytest.fixture
def kitchen(tmp_path, make):
    for name in ("P01_01", "P01_02"):
        make.clip(tmp_path / "videos" / "P01" / "videos" / f"{name}.MP4", 90, frames=40)
    rows = [row(n, 1 + n / 2, 1.6 + n / 2, n % 2, n % 3) for n in range(6)]
    return dict(
        task="anticipation",
        train=dict(path=annotations(tmp_path / "train.csv", rows)),
        validation=dict(
            path=annotations(
                tmp_path / "val.csv",
                [row(0, 2, 3, 0, 0, "P01_02"), row(1, 3, 4, 1, 1, "P01_02"), row(2, 3, 4, 9, 9)],
            )
        ),
        videos_path=str(tmp_path / "videos"),
        augmentation=dict(crop_scale=[0.5, 1.0]),
    )


@pytest.mark.parametrize("protocol", ["standard", "reference"])
def test_actions_are_anticipated_under_a_protocol_that_is_named(
    kitchen, probe_values, write_recipe, tmp_path, protocol
):
    values = probe_values(
        data={**kitchen, "protocol": protocol}, clips=dict(frames=4, fps=8), steps=2
    )
    output = tmp_path / protocol
    assert main(["probe", "--config", write_recipe(values), "--output", str(output)]) == 0
    results = read_results(output)
    assert results["protocol"].startswith(protocol)
    assert ("ENDS" in results["protocol"]) == (protocol == "reference")
    assert "1 of 3 actions left out" in results["protocol"]
    assert results["score"] == "action recall@5"
    assert {"verb top1", "noun class mean recall@5", "action class mean recall@5"} <= set(
        results["metrics"]
    )
    assert protocol in (output / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(clips=dict(frames=4)), "needs clips.fps"),
        (dict(probe=dict(kind="linear")), "needs attentive"),
    ],
)
def test_recipes_that_cannot_anticipate_are_refused(
    kitchen, probe_values, write_recipe, tmp_path, capsys, change, message
):
    values = probe_values(
        **{"data": {**kitchen, "protocol": "standard"}, "clips": dict(frames=4, fps=8), **change}
    )
    output = str(tmp_path / "out")
    assert main(["probe", "--config", write_recipe(values), "--output", output]) == 1
    assert message in capsys.readouterr().err
