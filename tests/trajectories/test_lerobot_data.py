"""LeRobot data sets: what others wrote is read, what we write is exact and survives crashes."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trajectories.lerobot.files as files_module
import trajectories.lerobot.writer as writer_module
from trajectories.dataset import open_dataset, open_episode
from trajectories.droid_raw_writer import write_episode
from trajectories.errors import (
    BadEpisodeError,
    CorruptDataError,
    InvalidEpisodeError,
    TrajectoryError,
    UnknownFormatError,
)
from trajectories.kinematics import flange_pose
from trajectories.lerobot.keys import KeyMap
from trajectories.lerobot.writer import LeRobotWriter
from trajectories.video_writer import VideoWriter


def write(root, *episodes, **options):
    with LeRobotWriter(root, fps=round(episodes[0].fps, 6), **options) as writer:
        for episode in episodes:
            writer.add(episode)
    return root


def assert_same(read, written):
    np.testing.assert_array_equal(read.states, written.states)
    np.testing.assert_allclose(read.times_s, written.times_s, atol=1e-12)
    assert (read.task, read.success) == (written.task, written.success)
    for name, values in written.signals.items():
        np.testing.assert_array_equal(read.signals[name], values)
        assert read.signals[name].dtype == values.dtype
    for view, pose in written.extrinsics.items():
        np.testing.assert_array_equal(read.extrinsics[view], pose)
    assert set(read.cameras) == set(written.cameras)
    for view, stream in written.cameras.items():
        rows = range(len(written))
        loss = read.camera(view).read(rows).astype(int) - stream.read(rows)
        assert np.abs(loss).mean() < 6


def test_what_the_official_library_wrote_is_read(shared_dir):
    raw = open_dataset(shared_dir / "data" / "droid_raw")
    data = open_dataset(shared_dir / "data" / "droid_lerobot_v3")
    assert data.format == "lerobot_v3.0"
    for episode, original in zip(data, (raw.open(1), raw.open(3)), strict=True):
        np.testing.assert_array_equal(episode.states, original.states)
        assert episode.clock == "nominal"
        assert episode.fps == pytest.approx(5.0)
        assert set(episode.cameras) == {"left", "wrist"}
        rows = [0, 1, len(episode) // 2, len(episode) - 1]
        for view, stream in episode.cameras.items():
            loss = stream.read(rows).astype(int) - original.camera(view).read(rows)
            assert np.abs(loss).mean(axis=(1, 2, 3)).max() < 5


def there_and_back(tmp_path, originals):
    data = open_dataset(write(tmp_path / "lerobot", *originals))
    for index, original in enumerate(originals):
        assert_same(data.open(index), original)
        write_episode(data.open(index), tmp_path / f"back_{index}")
        back = open_episode(tmp_path / f"back_{index}")
        assert_same(back, original)
        assert back.provenance.attributes["uuid"] == original.provenance.attributes["uuid"]


def test_real_rows_go_there_and_back_exactly(tmp_path, shared_dir):
    raw = open_dataset(shared_dir / "data" / "droid_raw")
    there_and_back(tmp_path, [raw.open(index).select(range(0, 40, 2)) for index in (0, 3)])


@pytest.mark.slow
def test_whole_real_episodes_go_there_and_back_exactly(tmp_path, shared_dir):
    there_and_back(tmp_path, list(open_dataset(shared_dir / "data" / "droid_raw")))


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_what_was_written_is_read(tmp_path, make_episode, codec):
    episodes = [make_episode(rows=6 + seed, seed=seed) for seed in range(3)]
    data = open_dataset(write(tmp_path, *episodes, codec=codec))
    assert len(data) == 3
    for index, episode in enumerate(episodes):
        assert_same(data.open(index), episode)


def test_unknown_success_stays_unknown(tmp_path, make_episode):
    write(tmp_path, make_episode(success=None))
    assert open_dataset(tmp_path).open(0).success is None


def test_appending_keeps_what_is_there_and_counts_on(tmp_path, make_episode):
    episodes = [make_episode(rows=6 + seed, seed=seed) for seed in range(4)]
    write(tmp_path, *episodes[:2])
    write(tmp_path, *episodes[2:])
    data = open_dataset(tmp_path)
    for index, episode in enumerate(episodes):
        assert_same(data.open(index), episode)
    rows = pa.concat_tables(pq.read_table(f) for f in sorted(tmp_path.glob("data/*/*.parquet")))
    total = sum(map(len, episodes))
    assert rows["index"].to_pylist() == list(range(total))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, total, 4)


def test_statistics_are_those_of_all_rows(tmp_path, make_episode):
    episodes = [make_episode(rows=5 + 4 * seed, seed=seed) for seed in range(3)]
    write(tmp_path, *episodes[:2])
    write(tmp_path, episodes[2])
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    poses = np.concatenate([episode.states[:, :6] for episode in episodes])
    found = stats["observation.state.cartesian_position"]
    for name, expected in (
        ("min", poses.min(0)),
        ("max", poses.max(0)),
        ("mean", poses.mean(0)),
        ("std", poses.std(0)),
        ("count", [len(poses)]),
    ):
        np.testing.assert_allclose(found[name], expected)
    assert np.shape(stats["observation.images.wrist_left"]["mean"]) == (3, 1, 1)


def test_an_episode_is_added_once(tmp_path, make_episode):
    write(tmp_path, make_episode())
    with LeRobotWriter(tmp_path, fps=5) as writer:
        assert "droid_raw:LAB+00" in writer
        with pytest.raises(InvalidEpisodeError, match="already"):
            writer.add(make_episode())
        assert len(writer) == 1


class PowerCut(BaseException):
    """Ends a writer without any clean-up of its own."""


STEPS = ["_write_data", "_write_episodes", "_write_stats"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    tmp_path, make_episode, monkeypatch, step, moment
):
    write(tmp_path, make_episode(seed=0))
    original = getattr(files_module.LeRobotFiles, step)

    def crash(*arguments):
        if moment == "after":
            original(*arguments)
        raise PowerCut

    writer = LeRobotWriter(tmp_path, fps=5)
    writer.add(make_episode(seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(files_module.LeRobotFiles, step, crash)
        with pytest.raises(PowerCut):
            writer.close()
    writer._lock.close()
    assert len(open_dataset(tmp_path)) in (1, 2)
    assert_same(open_dataset(tmp_path).open(0), make_episode(seed=0))
    write(tmp_path, make_episode(seed=2))
    data = open_dataset(tmp_path)
    assert len(data) == 3
    for index in range(3):
        assert_same(data.open(index), make_episode(seed=index))
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    assert stats["index"]["count"] == [36]
    assert not (tmp_path / ".staged").exists()


def test_a_full_stage_is_merged_and_filled_again(tmp_path, make_episode, monkeypatch):
    monkeypatch.setattr(writer_module, "VIDEO_MB", 0)
    write(tmp_path, *[make_episode(seed=seed) for seed in range(3)])
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == 3
    for seed, read in enumerate(open_dataset(tmp_path)):
        assert_same(read, make_episode(seed=seed))


def test_a_half_staged_episode_is_dropped(tmp_path, make_episode):
    write(tmp_path, make_episode(seed=0))
    (tmp_path / ".staged/000000.partial").mkdir(parents=True)
    write(tmp_path, make_episode(seed=1))
    assert len(open_dataset(tmp_path)) == 2


def test_two_writers_never_share_a_data_set(tmp_path, make_episode):
    with LeRobotWriter(tmp_path, fps=5), pytest.raises(InvalidEpisodeError, match="another writer"):
        LeRobotWriter(tmp_path, fps=5)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"; the data set has float32", dict(signals={})),
        ("which the data set has not", dict(views=("left", "right", "wrist"))),
        ("10.00 rows/s, the data set 5", dict(times_s=np.arange(12) / 10)),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_whole(tmp_path, make_episode, message, changes):
    with LeRobotWriter(tmp_path, fps=5) as writer:
        writer.add(make_episode(seed=0))
        with pytest.raises(InvalidEpisodeError, match=message):
            writer.add(make_episode(seed=1, **changes))
    assert len(open_dataset(tmp_path)) == 1


def test_a_data_set_of_another_rate_is_not_added_to(tmp_path, make_episode):
    write(tmp_path, make_episode())
    with pytest.raises(InvalidEpisodeError, match="5 rows/s, not 10"):
        LeRobotWriter(tmp_path, fps=10)


def as_v21(source, target, make_episode, names=None):
    """The layout of v2.1: a Parquet file and a video per episode, JSON lines about them."""
    names = names or {}
    info = json.loads((source / "meta/info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {names.get(k, k): v for k, v in info["features"].items()},
    }
    table = pq.read_table(source / "data/chunk-000/file-000.parquet")
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    (target / "meta").mkdir(parents=True)
    (target / "data/chunk-000").mkdir(parents=True)
    lines = []
    for index in range(info["total_episodes"]):
        rows = table.filter(pa.compute.equal(table["episode_index"], index))
        pq.write_table(rows, target / f"data/chunk-000/episode_{index:06d}.parquet")
        lines.append({"episode_index": index, "tasks": [f"task {index}"], "length": len(rows)})
        for key, feature in info["features"].items():
            if feature["dtype"] == "video":
                path = target / f"videos/chunk-000/{key}/episode_{index:06d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = VideoWriter(path, (48, 64), 5)
                frames = make_episode(rows=len(rows), seed=index).camera("left").frames()
                for frame in frames:
                    writer.write(frame)
                writer.close()
    (target / "meta/info.json").write_text(json.dumps(info))
    (target / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return target


def test_version_2_1_is_read(tmp_path, make_episode):
    episodes = [make_episode(rows=6 + seed, seed=seed) for seed in range(2)]
    source = write(tmp_path / "v3", *episodes)
    data = open_dataset(as_v21(source, tmp_path / "v2", make_episode))
    assert data.format == "lerobot_v2.1"
    for read, written in zip(data, episodes, strict=True):
        np.testing.assert_array_equal(read.states, written.states)
        loss = read.camera("wrist").read([5]).astype(int) - written.camera("wrist").read([5])
        assert np.abs(loss).mean() < 6


def test_a_file_that_lacks_a_column_spoils_its_own_episode_only(tmp_path, make_episode):
    source = write(tmp_path / "v3", *(make_episode(seed=seed) for seed in range(2)))
    root = as_v21(source, tmp_path / "v2", make_episode)
    file = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(file).drop_columns("observation.state.gripper_position"), file)
    data = open_dataset(root)
    assert len(data.open(0)) > 0
    with pytest.raises(BadEpisodeError, match=r"episode 1: missing key: .*gripper_position"):
        data.open(1)


OPENPI = {
    "observation.state.joint_position": "joint_position",
    "observation.state.gripper_position": "gripper_position",
    "observation.images.exterior_1_left": "exterior_image_1_left",
    "observation.images.wrist_left": "wrist_image_left",
    "observation.state.cartesian_position": "unused",
}


def test_openpis_names_are_known_and_its_poses_follow_from_the_joints(tmp_path, make_episode):
    episode = make_episode()
    source = write(tmp_path / "v3", episode)
    read = open_episode(as_v21(source, tmp_path / "v2", make_episode, OPENPI))
    joints = episode.signals["observation/robot_state/joint_positions"]
    np.testing.assert_allclose(read.states[:, :6], flange_pose(joints))
    np.testing.assert_array_equal(read.states[:, 6], episode.states[:, 6])
    assert set(read.cameras) == {"left", "wrist"}


def test_other_names_need_a_key_map(tmp_path, make_episode):
    names = {
        "observation.state.cartesian_position": "eef",
        "observation.state.gripper_position": "hand",
        "observation.state.joint_position": "angles",
    }
    source = write(tmp_path / "v3", make_episode())
    root = as_v21(source, tmp_path / "v2", make_episode, names)
    with pytest.raises(UnknownFormatError, match=r"give a KeyMap for .*eef"):
        open_dataset(root)
    keys = KeyMap(pose="eef", gripper="hand", cameras={"top": "observation.images.wrist_left"})
    read = open_episode(root, keys)
    np.testing.assert_array_equal(read.states, make_episode().states)
    assert set(read.cameras) == {"top", "exterior_1_left"}


def edit_info(root, **changes):
    file = root / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "message", "damage"),
    [
        (UnknownFormatError, "version 'v1.6'", lambda r: edit_info(r, codebase_version="v1.6")),
        (UnknownFormatError, "version None", lambda r: edit_info(r, codebase_version=None)),
        (CorruptDataError, "no features", lambda r: edit_info(r, features=[])),
        (CorruptDataError, "info.json", lambda r: (r / "meta/info.json").write_text("{")),
        (CorruptDataError, "no Parquet", lambda r: shutil.rmtree(r / "meta/episodes")),
        (
            CorruptDataError,
            "cannot be read",
            lambda r: (r / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1"),
        ),
    ],
)
def test_a_damaged_data_set_is_named(tmp_path, make_episode, kind, message, damage):
    damage(write(tmp_path, make_episode()))
    with pytest.raises(kind, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["data/chunk-000/file-000.parquet"])
def test_damaged_rows_are_named_with_the_episode(tmp_path, make_episode, name):
    file = write(tmp_path, make_episode()) / name
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(BadEpisodeError, match=r"episode 0: unreadable: .*file-000"):
        open_dataset(tmp_path).open(0)


def test_a_damaged_video_is_named_when_it_is_read(tmp_path, make_episode):
    write(tmp_path, make_episode())
    file = next((tmp_path / "videos/observation.images.wrist_left").rglob("*.mp4"))
    file.write_bytes(file.read_bytes()[:-200])
    episode = open_dataset(tmp_path).open(0)
    with pytest.raises(TrajectoryError, match=r"file-000\.mp4"):
        episode.camera("wrist").read([0])
    assert len(episode.camera("left").read([0])) == 1
