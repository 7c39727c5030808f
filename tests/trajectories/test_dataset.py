"""Opening whatever lies at a path, here or elsewhere."""

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile

from trajectories.batch import require_views
from trajectories.dataset import open_dataset, open_episode
from trajectories.errors import (
    BadEpisodeError,
    CorruptDataError,
    TrajectoryError,
    UnknownFormatError,
)
from trajectories.lerobot.writer import LeRobotWriter
from trajectories.shards import ShardWriter
from trajectories.storage import locate
from trajectories.video import VideoCamera
from trajectories.video_writer import VideoWriter


def test_the_published_example_is_read(shared_dir):
    episode = open_episode(shared_dir / "data" / "franka_example_traj.npz")
    assert len(episode) == 2
    assert episode.camera("left").read([1, 0]).shape == (2, 256, 256, 3)
    np.testing.assert_allclose(episode.actions[0, :3], [0.092, 0.031, 0.084], atol=1e-3)
    assert episode.states[0, 6] == pytest.approx(0.997, abs=1e-3)


@pytest.mark.parametrize(
    "content",
    [
        dict(observations=np.zeros((1, 2, 8, 8, 3))),
        dict(observations=np.zeros((1, 2, 8, 8, 3), np.uint8), states=np.zeros((1, 3, 7))),
        dict(observations=np.zeros((2, 8, 8, 3), np.uint8), states=np.zeros((2, 7))),
    ],
)
def test_another_npz_says_what_it_lacks(tmp_path, content):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(CorruptDataError, match=r"a\.npz"):
        open_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more"])
def test_a_damaged_npz_is_named(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(CorruptDataError, match=r"a\.npz"):
        open_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_in_an_npz_is_noticed(tmp_path, save):
    frames = np.random.default_rng(0).integers(0, 255, (1, 2, 8, 8, 3), dtype=np.uint8)
    save(tmp_path / "whole.npz", observations=frames, states=np.zeros((1, 2, 7)))
    whole = (tmp_path / "whole.npz").read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        (tmp_path / "a.npz").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        )
        try:
            read = open_episode(tmp_path / "a.npz")
        except CorruptDataError:
            refused += 1
        else:
            np.testing.assert_array_equal(read.camera("left").read([0, 1]), frames[0])
    assert refused > len(whole) / 6


def test_a_bare_array_is_no_example(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((1, 2, 8, 8, 3), np.uint8))
    with pytest.raises(CorruptDataError, match=r"a\.npz is no V-JEPA 2 example"):
        open_dataset(tmp_path / "a.npz")


def test_simulator_shards_are_episodes(tmp_path, make_episode):
    episode = make_episode(rows=4)
    frames = episode.camera("left").read(range(4))
    writer = ShardWriter(tmp_path / "shard-00000", 4, (48, 64), {"control_period_s": 0.5})
    writer.append(frames, episode.states, "grasp")
    writer.close()
    read = open_episode(tmp_path)
    np.testing.assert_array_equal(read.states, episode.states)
    np.testing.assert_array_equal(read.camera("left").read(range(4)), frames)
    np.testing.assert_allclose(read.times_s, [0, 0.5, 1, 1.5])
    assert read.task == "grasp"


def test_one_of_several_episodes_is_chosen_by_number(raw_tree):
    assert open_episode(f"{raw_tree}#2").name.endswith("run_2")
    with pytest.raises(UnknownFormatError, match=r"3 episodes; choose one with .*#0 .. .*#2"):
        open_episode(raw_tree)
    with pytest.raises(IndexError, match="no number 3"):
        open_episode(f"{raw_tree}#3")


def test_a_path_without_recordings_says_what_was_looked_for(tmp_path):
    with pytest.raises(UnknownFormatError, match=r"LeRobot.*RLDS.*simulator.*DROID raw"):
        open_dataset(tmp_path)
    with pytest.raises(UnknownFormatError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UnknownFormatError, match=r"no \.npz"):
        open_dataset(tmp_path / "a.txt")


def test_an_unknown_protocol_says_so():
    with pytest.raises(TrajectoryError, match="nosuch"):
        open_dataset("nosuch://bucket/data")


def test_a_file_url_and_a_location_are_paths_like_others(raw_tree):
    for place in (f"file://{raw_tree}", locate(raw_tree)):
        data = open_dataset(place)
        assert (len(data), str(data.root)) == (3, str(raw_tree))


@pytest.fixture
def remote():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def test_a_remote_raw_tree_is_read_like_a_local_one(raw_tree, remote):
    remote.put(str(raw_tree), "/bucket/droid", recursive=True)
    local, far = open_dataset(raw_tree), open_dataset("memory://bucket/droid")
    assert [far.name(i) for i in range(len(far))] == [local.name(i) for i in range(len(local))]
    for ours, theirs in zip(local, far, strict=True):
        np.testing.assert_array_equal(ours.states, theirs.states)
        np.testing.assert_array_equal(
            ours.camera("left").read([8, 1]), theirs.camera("left").read([8, 1])
        )
        theirs.close()


def test_one_remote_episode_is_fetched_without_the_others(
    tmp_path, make_episode, remote, monkeypatch
):
    with LeRobotWriter(tmp_path / "data", fps=5) as writer:
        writer.add(make_episode(seed=0))
    with LeRobotWriter(tmp_path / "data", fps=5) as writer:
        writer.add(make_episode(seed=1))
    remote.put(str(tmp_path / "data"), "/bucket/data", recursive=True)
    read = []
    monkeypatch.setattr(
        MemoryFile, "read", lambda f, *a: (read.append(f.path), super(MemoryFile, f).read(*a))[1]
    )
    data = open_dataset("memory://bucket/data")
    episode = data.open(1)
    np.testing.assert_array_equal(episode.states, make_episode(seed=1).states)
    episode.camera("left").read([3])
    episode.close()
    touched = {path for path in read if "/meta/" not in path}
    assert touched == {
        "/bucket/data/data/chunk-000/file-001.parquet",
        "/bucket/data/videos/observation.images.exterior_1_left/chunk-000/file-001.mp4",
    }


def test_a_remote_video_that_is_gone_is_a_bad_camera(raw_folder, remote):
    remote.put(str(raw_folder), "/bucket/run", recursive=True)
    episode = open_episode("memory://bucket/run")
    remote.rm("/bucket/run/recordings/MP4/wrist.mp4")
    with pytest.raises(BadEpisodeError, match=r"corrupt video: wrist: .*wrist\.mp4"):
        require_views(episode, ["wrist"])
    assert len(episode.camera("left").read([0])) == 1


def test_a_connection_that_breaks_while_frames_are_read_is_named(tmp_path, remote, monkeypatch):
    writer = VideoWriter(tmp_path / "a.mp4", (96, 128), 5)
    for frame in np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), dtype=np.uint8):
        writer.write(frame)
    writer.close()
    remote.put(str(tmp_path / "a.mp4"), "/bucket/a.mp4")
    read, cuts = MemoryFile.read, []

    def read_until_cut(*arguments):
        if cuts:
            raise ConnectionResetError("the network is gone")
        return read(*arguments)

    monkeypatch.setattr(MemoryFile, "read", read_until_cut)
    camera = VideoCamera(locate("memory://bucket/a.mp4"), 30)
    camera.read([0])
    cuts.append("now")
    with pytest.raises(CorruptDataError, match=r"frame 29 of memory://.*the network is gone"):
        camera.read([29])


def test_a_remote_path_is_not_written_to():
    with pytest.raises(TrajectoryError, match="upload"):
        locate("memory://bucket/data").local()


def test_a_bad_episode_does_not_stop_others_from_being_opened(raw_tree, raw_folder):
    (raw_folder / "trajectory.h5").unlink()
    data = open_dataset(raw_tree)
    with pytest.raises(BadEpisodeError, match="run_0: missing signals"):
        data.open(0)
    assert len(data.open(1)) == 11
