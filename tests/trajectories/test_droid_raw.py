"""Raw DROID episodes: what is right is read exactly, what is wrong is named with the episode."""

import json
import shutil

import h5py
import numpy as np
import pytest

from trajectories.batch import Tally, require_views, usable
from trajectories.dataset import open_dataset, open_episode
from trajectories.droid_raw_writer import write_episode
from trajectories.errors import BadEpisodeError, InvalidEpisodeError, TooManyBadEpisodesError

POSE = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
CLOCK = "observation/timestamp/control/step_start"


def metadata_file(folder):
    return next(folder.glob("metadata_*.json"))


def edit_metadata(folder, **changes):
    file = metadata_file(folder)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_signals(folder, key, change):
    with h5py.File(folder / "trajectory.h5", "a") as file:
        values = change(file[key][()])
        del file[key]
        if values is not None:
            file[key] = values


def test_the_real_episodes_are_read(shared_dir):
    data = open_dataset(shared_dir / "data" / "droid_raw")
    assert [len(episode) for episode in data] == [56, 89, 80, 62]
    episode = data.open(1)
    assert episode.task == "Put the blue block in the green bowl"
    assert episode.success is True
    assert episode.clock == "measured"
    assert episode.fps == pytest.approx(5.0)
    assert set(episode.cameras) == {"left", "right", "wrist"}
    assert episode.extrinsics == {}  # zeros were published: that is no pose
    for stream in episode.cameras.values():
        assert stream.read([88, 0]).shape == (2, 192, 320, 3)


def test_what_was_written_is_read(raw_folder, make_episode):
    written, read = make_episode(rows=10), open_episode(raw_folder)
    np.testing.assert_array_equal(read.states, written.states)
    np.testing.assert_allclose(read.times_s, written.times_s, atol=1e-12)
    np.testing.assert_array_equal(read.extrinsics["left"], written.extrinsics["left"])
    assert read.signals.keys() - {CLOCK} == written.signals.keys()
    for name, values in written.signals.items():
        np.testing.assert_array_equal(read.signals[name], values)
        assert read.signals[name].dtype == values.dtype
    assert (read.task, read.success) == (written.task, written.success)
    loss = read.camera("left").read(range(10)).astype(int) - written.camera("left").read(range(10))
    assert np.abs(loss).mean() < 6


def test_copying_an_episode_copies_its_videos(raw_folder, tmp_path):
    first = open_episode(raw_folder)
    write_episode(first, tmp_path / "copy")
    second = open_episode(tmp_path / "copy")
    np.testing.assert_array_equal(second.states, first.states)
    for view in first.cameras:
        np.testing.assert_array_equal(
            second.camera(view).read(range(10)), first.camera(view).read(range(10))
        )


def test_an_episode_is_never_overwritten(raw_folder, make_episode):
    with pytest.raises(InvalidEpisodeError, match="holds an episode"):
        write_episode(make_episode(), raw_folder)


def test_of_two_metadata_files_the_one_that_names_the_folder_counts(raw_folder):
    stray = json.loads(metadata_file(raw_folder).read_text())
    stray |= {"hdf5_path": "success/2024-05-01/another_run/trajectory.h5", "current_task": "other"}
    (raw_folder / "metadata_A.json").write_text(json.dumps(stray))
    (raw_folder / "task.json").write_text("{}")
    assert open_episode(raw_folder).task == "task 0"


def test_views_fall_back_to_the_names_of_the_exterior_cameras(raw_folder):
    edit_metadata(raw_folder, left_mp4_path=None)
    assert set(open_episode(raw_folder).cameras) == {"left", "wrist"}


def test_without_timestamps_the_clock_is_the_nominal_15_hz(raw_folder):
    edit_signals(raw_folder, CLOCK, lambda _: None)
    episode = open_episode(raw_folder)
    assert episode.clock == "nominal"
    assert episode.fps == pytest.approx(15.0)


def test_a_signal_of_another_length_is_left_out_and_said(raw_folder):
    edit_signals(raw_folder, "planner/evaluations", lambda values: values[:-1])
    episode = open_episode(raw_folder)
    assert "planner/evaluations" not in episode.signals
    assert any("planner/evaluations" in str(warning) for warning in episode.warnings)


def put(row, column, value):
    def change(values):
        values[row, column] = value
        return values

    return change


def drop(name):
    return lambda folder: (folder / name).unlink()


DAMAGE = {
    "missing metadata": lambda f: metadata_file(f).unlink(),
    "ambiguous metadata": lambda f: shutil.copy(metadata_file(f), f / "metadata_second.json"),
    "corrupt metadata": lambda f: metadata_file(f).write_text('{"uuid": '),
    "missing signals": drop("trajectory.h5"),
    "corrupt signals": lambda f: (f / "trajectory.h5").write_bytes(
        (f / "trajectory.h5").read_bytes()[:3000]
    ),
    "missing key": lambda f: edit_signals(f, GRIPPER, lambda _: None),
    "wrong shape": lambda f: edit_signals(f, POSE, lambda values: values[:, :5]),
    "zero length": lambda f: [
        edit_signals(f, key, lambda values: values[:0]) for key in (POSE, GRIPPER, CLOCK)
    ],
    "NaN rows": lambda f: edit_signals(f, POSE, put(3, 2, np.nan)),
    "units: a position": lambda f: edit_signals(f, POSE, lambda v: v * [1e3] * 6),
    "units: an angle": lambda f: edit_signals(f, POSE, lambda v: v * ([1] * 3 + [57.3] * 3)),
    "units: gripper": lambda f: edit_signals(f, GRIPPER, lambda v: 85 * v),
    "clock": lambda f: edit_signals(f, CLOCK, lambda v: v[::-1]),
    "clock: timestamps are not finite": lambda f: edit_signals(f, CLOCK, lambda v: v * np.nan),
    "corrupt metadata: .* is no JSON object": lambda f: metadata_file(f).write_text("[]"),
    "length mismatch": lambda f: edit_signals(f, CLOCK, lambda v: v[:-2]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_bad_episode_is_named_with_what_is_wrong(raw_folder, kind):
    DAMAGE[kind](raw_folder)
    with pytest.raises(BadEpisodeError, match=f"run_0: .*{kind}"):
        open_episode(raw_folder)


def cut(f):
    video = f / "recordings/MP4/left.mp4"
    video.write_bytes(video.read_bytes()[:400])


CAMERA_DAMAGE = {
    "length mismatch": lambda f: [
        edit_signals(f, POSE, lambda v: v[:-1]),
        edit_signals(f, GRIPPER, lambda v: v[:-1]),
        edit_signals(f, CLOCK, lambda v: v[:-1]),
    ],
    "corrupt video": cut,
    "unreadable video": drop("recordings/MP4/left.mp4"),
    "missing camera": lambda f: edit_metadata(f, left_mp4_path=None, ext1_mp4_path=None),
}


@pytest.mark.parametrize("kind", CAMERA_DAMAGE)
def test_a_bad_camera_is_named_when_it_is_needed(raw_folder, kind):
    CAMERA_DAMAGE[kind](raw_folder)
    episode = open_episode(raw_folder)
    kinds = {"unreadable video": "corrupt video"}
    with pytest.raises(BadEpisodeError, match=f"run_0: {kinds.get(kind, kind)}: left"):
        require_views(episode, ["left"])


def test_a_batch_run_skips_and_counts_bad_episodes(raw_tree, raw_folder):
    edit_signals(raw_folder, POSE, put(3, 2, np.nan))
    tally = Tally()
    names = [episode.name for episode in usable(open_dataset(raw_tree), tally, views=("left",))]
    assert names == [f"LAB/success/2024-05-01/run_{n}" for n in (1, 2)]
    assert tally.good == 2
    assert [error.name for error in tally.bad] == ["LAB/success/2024-05-01/run_0"]
    with pytest.raises(TooManyBadEpisodesError, match=r"1 bad episodes, 0 are allowed.*\n.*NaN"):
        list(usable(open_dataset(raw_tree), Tally(), max_bad=0))


def oddities(states=None, times_s=None):
    from trajectories.defects import anomalies

    rows = len(states)
    times_s = np.arange(rows) / 15 if times_s is None else times_s
    return {defect.kind for defect in anomalies(states, times_s, "measured")}


def test_oddities_are_told_apart(make_episode):
    states = make_episode(rows=40).states
    plain = oddities(states)
    locked, jump, still, idle, chatter, wide = (states.copy() for _ in range(6))
    locked[5, 4] = np.pi / 2 - 0.01
    jump[20:, 0] += 0.5
    still[:, :3] = states[0, :3]
    idle[:, 6] = 0.3
    chatter[10:14, 6] = [0, 1, 0, 1]
    wide[7:, 6] = 1.04
    late = np.arange(40) / 15 + (np.arange(40) > 9) * 2.0
    assert oddities(locked) >= plain | {"gimbal"}
    assert oddities(jump) - plain == {"jump"}
    assert oddities(still) - plain == {"no motion"}
    assert oddities(idle) - plain == {"gripper idle"}
    assert oddities(chatter) - plain == {"gripper chatter"}
    assert oddities(wide) - plain == {"gripper range"}
    assert oddities(states, late) - plain == {"clock gap"}
