"""Where clips come from: every kind of source, mixes, jitter, augmentation, and what is broken."""

import io
import pickle
import tarfile

import av
import numpy as np
import pytest
import torch

from models.preprocess import preprocess_frames
from training.augmentation import augment, random_crop
from training.clips import ClipSource, choose_rows
from training.errors import ConfigurationError, DataError
from training.pretrain_config import AugmentationConfig, PretrainConfig, SourceConfig
from training.videos import open_videos

FRAMES = 12


def write_video(path, frames=FRAMES, fps=8, side=64):
    """A video whose frame t has brightness 20 t: a frame tells its number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            image = np.full((side, side, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(frames):
    """What frames `[T, H, W, 3]` of `write_video` are numbered."""
    return [round(float(frame.mean()) / 20) for frame in frames]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "inner").mkdir()
    write_video(folder / "a.mp4")
    write_video(folder / "inner" / "b c.mp4")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def source(**values):
    return SourceConfig.model_validate(dict(frames=4, **values))


def names_of(found):
    return [found.name(index) for index in range(len(found))]


def test_a_folder_gives_the_videos_below_it(videos, rng):
    found = open_videos("mine", source(kind="folder", path=str(videos)))
    assert names_of(found) == [str(videos / "a.mp4"), str(videos / "inner" / "b c.mp4")]
    stream = found.open(1, rng)
    assert (len(stream), stream.nominal_fps) == (FRAMES, 8)
    assert numbers(stream.read([0, 5, 5, 11])) == [0, 5, 5, 11]
    stream.close()


@pytest.mark.parametrize(
    "lines",
    ["a.mp4 3\ninner/b c.mp4 1\n", "a.mp4::3\ninner/b c.mp4::1", "a.mp4\n\ninner/b c.mp4\n"],
)
def test_a_list_gives_its_paths_with_or_without_labels(videos, lines):
    (videos / "list.csv").write_text(lines)
    found = open_videos("mine", source(kind="csv", path=str(videos / "list.csv")))
    assert names_of(found) == [str(videos / "a.mp4"), str(videos / "inner" / "b c.mp4")]


def test_tar_shards_are_read_by_random_access(videos, tmp_path, rng):
    for number, name in enumerate(["a.mp4", "inner/b c.mp4"]):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as archive:
            archive.add(videos / name, arcname=f"key{number}.mp4")
            label = b"7"
            info = tarfile.TarInfo(f"key{number}.cls")
            info.size = len(label)
            archive.addfile(info, io.BytesIO(label))
    for path in (tmp_path, tmp_path / "shard-*.tar"):
        found = open_videos("mine", source(kind="webdataset", path=str(path)))
        assert len(found) == 2
        assert names_of(found)[1].endswith("shard-1.tar:key1.mp4")
        assert numbers(found.open(1, rng).read([2, 9])) == [2, 9]


def test_an_image_is_a_video_of_one_frame(tmp_path, rng):
    image = np.full((32, 32, 3), 100, np.uint8)
    with av.open(str(tmp_path / "still.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    stream = open_videos("mine", source(kind="folder", path=str(tmp_path))).open(0, rng)
    assert len(stream) == 1
    rows = choose_rows(1, None, 4, source(kind="folder", fps=4), rng)
    assert rows.tolist() == [0, 0, 0, 0]
    assert np.array_equal(stream.read(rows)[3], image)


def test_episodes_give_the_camera_that_is_asked_for(shards, rng):
    found = open_videos("mine", source(kind="episodes", path=str(shards)))
    assert len(found) == 6
    assert found.open(0, rng).read([0]).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(kind="csv", path="nowhere.csv"), "no list"),
        (dict(kind="folder", path="nowhere"), "no folder"),
        (dict(kind="webdataset", path="nowhere/*.tar"), "no shard"),
    ],
)
def test_a_source_that_is_not_there_is_named(values, message):
    with pytest.raises(DataError, match=f"data.mine.*{message}"):
        open_videos("mine", source(**values))


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="no video"):
        open_videos("mine", source(kind="folder", path=str(tmp_path)))


def test_a_source_without_a_path_says_how_to_give_one():
    with pytest.raises(ConfigurationError, match="--data mine=PATH"):
        open_videos("mine", source(kind="folder"))


def test_frames_are_evenly_apart_and_start_anywhere(rng):
    starts = set()
    for _ in range(200):
        rows = choose_rows(100, 30.0, 16, source(kind="csv", fps=10), rng)
        assert set(np.diff(rows)) == {3}
        assert rows[0] >= 0
        assert rows[-1] < 100
        starts.add(int(rows[0]))
    assert min(starts) < 5
    assert max(starts) > 49


def test_a_short_video_is_used_from_its_start_and_its_last_frame_repeated(rng):
    rows = choose_rows(5, 30.0, 4, source(kind="csv", fps=15), rng)
    assert rows.tolist() == [0, 2, 4, 4]


def test_jitter_changes_the_step_from_clip_to_clip(rng):
    config = source(kind="csv", frame_step=10, step_jitter=[0.5, 2.0])
    spans = {int(np.ptp(choose_rows(1000, None, 4, config, rng))) for _ in range(100)}
    assert min(spans) < 22
    assert max(spans) > 45


def test_a_rate_is_refused_where_the_video_has_none(rng):
    with pytest.raises(ValueError, match="use frame_step"):
        choose_rows(100, None, 4, source(kind="csv", fps=4), rng)


def test_crops_have_the_areas_and_shapes_that_are_asked_for(rng):
    config = AugmentationConfig()
    shapes = [random_crop((240, 320), config, rng)[2:] for _ in range(300)]
    shares = np.array([h * w / (240 * 320) for h, w in shapes])
    ratios = np.array([w / h for h, w in shapes])
    assert shares.min() < 0.35
    assert shares.max() > 0.9
    assert (ratios > 0.74).all()
    assert (ratios < 1.36).all()


def test_a_frame_that_no_crop_fits_is_cut_in_the_middle(rng):
    config = AugmentationConfig(crop_scale=(1.777, 1.777))
    assert random_crop((720, 1280), config, rng) == (0, 154, 720, 972)


def test_without_a_crop_frames_are_what_planning_sees(rng):
    frames = torch.randint(0, 256, (4, 48, 64, 3), dtype=torch.uint8)
    clip = augment(frames, (32, 32), AugmentationConfig(crop_scale=None, flip=False), rng)
    torch.testing.assert_close(clip, preprocess_frames(frames, (32, 32)).transpose(0, 1))


def test_all_frames_of_a_clip_are_changed_alike(rng):
    frames = torch.randint(0, 256, (1, 48, 64, 3), dtype=torch.uint8).expand(4, -1, -1, -1)
    clip = augment(frames, (32, 32), AugmentationConfig(random_augment=7, erase=1.0), rng)
    assert clip.shape == (3, 4, 32, 32)
    assert clip.isfinite().all()
    torch.testing.assert_close(clip[:, 1:], clip[:, :1].expand(-1, 3, -1, -1), atol=4.0, rtol=0)


def test_augmentation_is_a_function_of_its_generator():
    frames = torch.randint(0, 256, (2, 48, 64, 3), dtype=torch.uint8)
    config = AugmentationConfig(random_augment=7, erase=0.5)
    state = torch.get_rng_state()
    first, second = (augment(frames, (32, 32), config, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def recipe(pretrain_values):
    def build(data, **changes):
        return PretrainConfig.model_validate(pretrain_values("unused", data=data, **changes))

    return build


def test_a_mix_follows_its_weights(videos, shards, recipe):
    config = recipe(
        dict(
            many=dict(kind="folder", path=str(videos), frames=4, weight=3),
            few=dict(kind="episodes", path=str(shards), frames=4, weight=1),
        ),
        batch_size=100,
        micro_batch_size=100,
    )
    clips = ClipSource(config)
    names = [name for step in range(3) for name in clips(step, 0).names]
    share = sum(name.endswith(".mp4") for name in names) / len(names)
    assert share == pytest.approx(0.75, abs=0.08)


def test_a_broken_video_is_replaced_and_named(videos, tmp_path, recipe):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((videos / "a.mp4").read_bytes()[:600])
    (tmp_path / "list.csv").write_text(f"{broken} 0\n{videos / 'a.mp4'} 0\nmissing.mp4 0\n")
    clips = ClipSource(recipe(dict(a=dict(kind="csv", path=str(tmp_path / "list.csv"), frames=4))))
    batches = [clips(step, 0) for step in range(6)]
    assert {name for batch in batches for name in batch.names} == {str(videos / "a.mp4")}
    skipped = " ".join(text for batch in batches for text in batch.skipped)
    assert "broken.mp4" in skipped
    assert "missing.mp4" in skipped


def test_data_that_are_all_broken_end_the_run_after_some_tries(tmp_path, recipe):
    (tmp_path / "list.csv").write_text("missing.mp4 0\n")
    config = recipe(
        dict(a=dict(kind="csv", path=str(tmp_path / "list.csv"), frames=4)), max_retries=3
    )
    with pytest.raises(DataError, match=r"4 clips in a row.*missing\.mp4"):
        ClipSource(config)(0, 0)


def test_stills_are_repeated_to_a_tubelet(videos, recipe):
    config = recipe(dict(a=dict(kind="folder", path=str(videos), frames=1)))
    (group,) = ClipSource(config)(0, 0).groups
    assert group.clip.shape == (2, 3, 2, 32, 32)
    torch.testing.assert_close(group.clip[:, :, 0], group.clip[:, :, 1])


def test_a_source_can_be_copied_into_loading_processes(videos, shards, tmp_path, recipe):
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(videos / "a.mp4", arcname="a.mp4")
    config = recipe(
        dict(
            a=dict(kind="folder", path=str(videos), frames=4),
            b=dict(kind="webdataset", path=str(tmp_path), frames=4),
            c=dict(kind="episodes", path=str(shards), frames=4),
        )
    )
    clips = ClipSource(config)
    copied = pickle.loads(pickle.dumps(clips))
    for group in range(4):
        assert copied(0, group).names == clips(0, group).names
        torch.testing.assert_close(copied(0, group).groups[0].clip, clips(0, group).groups[0].clip)


def test_a_shard_that_is_no_tar_file_is_named(tmp_path):
    (tmp_path / "cut.tar").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"cut\.tar is no tar file"):
        open_videos("mine", source(kind="webdataset", path=str(tmp_path)))
