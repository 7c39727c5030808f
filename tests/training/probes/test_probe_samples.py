"""Labelled files: lists, folders, and what is refused. Clips: which rows, which squares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.config import EncoderConfig
from training.errors import ConfigurationError, DataError
from training.pretrain_config import AugmentationConfig
from training.probes.samples import FilesConfig, VideoSamples, open_files
from training.probes.views import ClipConfig, evaluation_views, segment_rows, training_view


def write(path, text):
    path.write_text(text)
    return FilesConfig(kind="csv", path=str(path))


@pytest.mark.parametrize("separator", [" ", ",", "\t", "::", ", "])
def test_a_list_may_separate_path_and_label_in_any_way(tmp_path, separator):
    config = write(tmp_path / "list.csv", f"a b.mp4{separator}1\n\nc.mp4{separator}0\n")
    videos = open_files("train", config, None)
    assert [videos.name(i) for i in range(2)] == [
        str(tmp_path / "a b.mp4"),
        str(tmp_path / "c.mp4"),
    ]
    assert [videos.label(i) for i in range(2)] == [1, 0]
    assert videos.classes == ("0", "1")


def test_names_of_classes_are_numbered_in_their_order(tmp_path):
    config = write(tmp_path / "list.csv", "a.mp4,up\nb.mp4,down\n")
    assert open_files("train", config, None).classes == ("down", "up")
    named = open_files("train", config, ("up", "still", "down"))
    assert [named.label(0), named.label(1)] == [0, 2]


def test_a_folder_has_a_class_per_folder(tmp_path, make):
    for name in ("cat/1.jpg", "dog/deep/2.jpg", "dog/3.jpg"):
        make.image(tmp_path / name, 90)
    videos = open_files("train", FilesConfig(kind="folder", path=str(tmp_path)), None)
    assert videos.classes == ("cat", "dog")
    assert [videos.label(i) for i in range(len(videos))] == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("a.mp4 0\nb.mp4 7\n", 3, r"line 2 has the label '7', which is none of the 3 classes"),
        ("a.mp4 0\nb.mp4 -1\n", 3, "label '-1'"),
        ("a.mp4 jump\n", ("run", "walk"), "'jump', which is none of the 2 classes"),
        ("a.mp4\n", None, "line 1 is 'a.mp4'; expected a path and a label"),
        ("\n", None, "no video"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_their_line(tmp_path, text, classes, message):
    with pytest.raises(DataError, match=message):
        open_files("train", write(tmp_path / "list.csv", text), classes)


def test_missing_paths_are_named(tmp_path, make):
    with pytest.raises(ConfigurationError, match="--data train=PATH"):
        open_files("train", FilesConfig(kind="csv"), None)
    with pytest.raises(DataError, match="no list"):
        open_files("train", FilesConfig(kind="csv", path=str(tmp_path / "none")), None)
    with pytest.raises(DataError, match="no folder"):
        open_files("train", FilesConfig(kind="folder", path=str(tmp_path / "none")), None)
    make.image(tmp_path / "loose.jpg", 90)
    with pytest.raises(DataError, match="no folder of a class"):
        open_files("train", FilesConfig(kind="folder", path=str(tmp_path)), None)


@given(
    length=st.integers(1, 200),
    frames=st.integers(1, 16),
    step=st.integers(1, 5),
    segments=st.integers(1, 8),
    seed=st.none() | st.integers(0, 100),
)
def test_rows_are_spread_evenly_and_inside_the_video(length, frames, step, segments, seed):
    clips = ClipConfig(frames=frames, frame_step=step, segments=segments)
    rng = None if seed is None else np.random.default_rng(seed)
    rows = segment_rows(length, None, clips, rng)
    assert rows.shape == (segments, frames)
    assert rows.min() >= 0
    assert rows.max() < length
    span = frames * step
    if length >= span and frames > 1:
        assert np.ptp(rows, axis=1).tolist() == [span - 1] * segments
    if length >= span and frames > 2:
        assert np.ptp(np.diff(rows, axis=1)[:, :-1], axis=1).max() <= 1
    assert (np.diff(rows[:, 0]) >= 0).all()
    if length >= span * segments:  # parts do not overlap
        assert (rows[1:, 0] > rows[:-1, -1]).all()
        assert (rows[:, 0] // (length // segments) == np.arange(segments)).all()


def test_sixteen_frames_four_apart_are_those_of_the_published_evaluations():
    rows = segment_rows(64, None, ClipConfig(frames=16, frame_step=4), None)[0]
    assert rows.tolist() == [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def test_a_rate_becomes_a_step_and_a_video_without_one_is_refused():
    clips = ClipConfig(frames=4, fps=4)
    assert segment_rows(100, 29.97, clips, None).tolist() == [[0, 9, 18, 27]]  # four steps of seven
    with pytest.raises(DataError, match="no frame rate"):
        segment_rows(100, None, clips, None)
    assert segment_rows(1, None, clips, None).tolist() == [[0, 0, 0, 0]]  # an image


def test_an_image_is_repeated_to_a_clip(tmp_path, make):
    make.image(tmp_path / "a" / "1.jpg", 90)
    videos = open_files("train", FilesConfig(kind="folder", path=str(tmp_path)), None)
    clips = VideoSamples(videos, ClipConfig(frames=4), 32).read(0, None).clips
    assert clips.shape == (1, 1, 3, 4, 32, 32)
    assert torch.equal(clips[:, :, :, 0], clips[:, :, :, 3])


def test_views_are_told_apart_and_segments_go_together():
    frames = torch.randint(0, 256, (2, 4, 40, 64, 3), dtype=torch.uint8)
    clips = ClipConfig(frames=4, segments=2, views=3)
    views = evaluation_views(frames, clips, 32)
    assert views.shape == (3, 2, 3, 4, 32, 32)
    assert not torch.equal(views[0], views[2])
    alone = evaluation_views(frames[1:], clips, 32)
    assert torch.equal(views[:, 1:], alone)
    square = ClipConfig(frames=4, segments=2, geometry="centre_square")
    assert evaluation_views(frames, square, 32).shape == (1, 2, 3, 4, 32, 32)


def test_training_augments_every_segment_by_itself_and_repeats_itself():
    frames = torch.randint(0, 256, (1, 4, 40, 64, 3), dtype=torch.uint8).expand(2, -1, -1, -1, -1)
    augmentation = AugmentationConfig(crop_scale=(0.3, 0.5))
    views = [
        training_view(frames, augmentation, 32, np.random.default_rng(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert not torch.equal(views[0][:, 0], views[0][:, 1])


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (dict(resolution=36), "multiples of 8 px"),
        (dict(frames=3), "of 2 frames"),
    ],
)
def test_clips_that_the_encoder_cannot_take_are_refused(clips, message):
    encoder = EncoderConfig(img_size=(32, 32), patch_size=8, embed_dim=48, depth=1, num_heads=2)
    with pytest.raises(ConfigurationError, match=message):
        ClipConfig(**{"frames": 4, **clips}).side_px(encoder)
    assert ClipConfig(frames=4, resolution=48).side_px(encoder) == 48
    table = encoder.model_copy(update={"rope": None})
    with pytest.raises(ConfigurationError, match="takes 32 px only"):
        ClipConfig(frames=4, resolution=48).side_px(table)
