"""Shards: what was appended comes back, and damage is named."""

import json

import numpy as np
import pytest

from trajectories.errors import CorruptDataError, InvalidEpisodeError
from trajectories.shards import ShardWriter, open_shards

LENGTH, SIZE = 4, (6, 8)


def episode(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (LENGTH, *SIZE, 3), dtype=np.uint8), rng.random((LENGTH, 7))


def write(directory, seeds):
    writer = ShardWriter(directory, LENGTH, SIZE, {"seed": seeds[0]})
    for seed in seeds:
        writer.append(*episode(seed), task=f"task {seed}")
    writer.close()


def test_episodes_of_all_shards_come_back_in_order(tmp_path):
    write(tmp_path / "shard-00000", [0, 1])
    write(tmp_path / "shard-00001", [2])
    data = open_shards(tmp_path)
    assert len(data) == 3
    assert data.tasks == ["task 0", "task 1", "task 2"]
    assert data.frame_size == SIZE
    for index in range(3):
        frames, states = episode(index)
        np.testing.assert_array_equal(data.frames(index), frames)
        np.testing.assert_array_equal(data.states[index], states)


@pytest.mark.parametrize("name", ["frames.npy", "states.npy", "episodes.json"])
def test_a_file_that_a_power_cut_left_empty_is_named(tmp_path, name):
    writer = ShardWriter(tmp_path / "shard-00000", 2, (8, 8), {})
    writer.append(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 7)), "reach")
    writer.close()
    (tmp_path / "shard-00000" / name).write_bytes(b"")
    with pytest.raises(CorruptDataError, match="shard-00000 cannot be read"):
        open_shards(tmp_path)


def test_an_unfinished_shard_is_not_seen(tmp_path):
    write(tmp_path / "shard-00000", [0])
    (tmp_path / "shard-00001.partial").mkdir()
    assert len(open_shards(tmp_path)) == 1


def test_an_existing_shard_is_never_overwritten(tmp_path):
    write(tmp_path / "shard-00000", [0])
    with pytest.raises(CorruptDataError, match="exists"):
        write(tmp_path / "shard-00000", [1])


def test_an_empty_folder_says_how_to_make_data(tmp_path):
    with pytest.raises(CorruptDataError, match="python -m simulation generate"):
        open_shards(tmp_path)


@pytest.mark.parametrize("name", ["frames.npy", "states.npy", "episodes.json"])
def test_a_truncated_file_is_named(tmp_path, name):
    write(tmp_path / "shard-00000", [0])
    file = tmp_path / "shard-00000" / name
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CorruptDataError, match="shard-00000"):
        open_shards(tmp_path)


def test_another_format_version_is_refused(tmp_path):
    write(tmp_path / "shard-00000", [0])
    header = tmp_path / "shard-00000" / "episodes.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "version": 99}))
    with pytest.raises(CorruptDataError, match="99"):
        open_shards(tmp_path)


def test_states_with_nan_are_refused(tmp_path):
    writer = ShardWriter(tmp_path / "shard-00000", LENGTH, SIZE, {})
    frames, states = episode(0)
    states[1, 2] = np.nan
    with pytest.raises(InvalidEpisodeError, match="finite"):
        writer.append(frames, states, "x")


def test_frames_of_another_size_are_refused(tmp_path):
    writer = ShardWriter(tmp_path / "shard-00000", LENGTH, SIZE, {})
    frames, states = episode(0)
    with pytest.raises(InvalidEpisodeError, match="expected uint8"):
        writer.append(frames[:, :-1], states, "x")


def test_a_shard_without_episodes_is_not_written(tmp_path):
    with pytest.raises(InvalidEpisodeError, match="no episode was appended"):
        ShardWriter(tmp_path / "shard-00000", LENGTH, SIZE, {}).close()
    assert not list(tmp_path.iterdir())


def test_shards_of_different_sizes_are_no_data_set(tmp_path):
    write(tmp_path / "shard-00000", [0])
    writer = ShardWriter(tmp_path / "shard-00001", LENGTH, (8, 8), {})
    writer.append(np.zeros((LENGTH, 8, 8, 3), np.uint8), np.zeros((LENGTH, 7)), "x")
    writer.close()
    with pytest.raises(CorruptDataError, match="differ in episode length or frame size"):
        open_shards(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "format version None"),
        ({"version": 1, "attributes": {}}, "lacks tasks or attributes"),
        ({"version": 1, "tasks": ["a"]}, "lacks tasks or attributes"),
        ({"version": 1, "tasks": ["a", "b"], "attributes": {}}, "holds 2 tasks, frames"),
    ],
)
def test_a_header_of_other_episodes_is_named(tmp_path, header, message):
    write(tmp_path / "shard-00000", [0])
    (tmp_path / "shard-00000/episodes.json").write_text(json.dumps(header))
    with pytest.raises(CorruptDataError, match=message):
        open_shards(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("states.npy", (2, LENGTH, 7)),
        ("states.npy", (1, LENGTH, 6)),
        ("frames.npy", (1, LENGTH)),
        ("frames.npy", (2, LENGTH, *SIZE, 3)),
    ],
)
def test_arrays_that_do_not_belong_together_are_named(tmp_path, name, shape):
    write(tmp_path / "shard-00000", [0])
    np.save(tmp_path / "shard-00000" / name, np.zeros(shape))
    with pytest.raises(CorruptDataError, match="do not belong together"):
        open_shards(tmp_path)
