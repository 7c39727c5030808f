"""LeRobot data sets that others wrote, half of them wrongly: images in rows, odd columns, damage that is named."""

import json
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trajectories.lerobot.files as files_module
from trajectories.batch import require_views
from trajectories.dataset import open_dataset
from trajectories.errors import BadEpisodeError, CorruptDataError, InvalidEpisodeError
from trajectories.lerobot.writer import LeRobotWriter

WRIST = "observation.images.wrist_left"
POSE = "observation.state.cartesian_position"


@pytest.fixture
def root(tmp_path, make_episode):
    """A data set of two episodes of six rows."""
    with LeRobotWriter(tmp_path / "data", fps=5) as writer:
        for seed in range(2):
            writer.add(make_episode(rows=6, seed=seed))
    return tmp_path / "data"


def edit_info(root, **changes):
    file = root / "meta/info.json"
    info = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))


def edit_rows(root, change, name="data/chunk-000/file-000.parquet"):
    table = change(pq.read_table(root / name))
    pq.write_table(table, root / name, row_group_size=6)


def replaced(table, column, values):
    place = table.column_names.index(column)
    return table.set_column(place, column, [values])


def png(frame):
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = frame.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    return b"".join(map(bytes, encoder.encode(picture) + encoder.encode(None)))


def with_images(root, images):
    """Turn the wrist camera into a column of images."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[WRIST] |= {"dtype": "image"}
    edit_info(root, features=features)
    if images is not None:
        edit_rows(root, lambda table: table.append_column(WRIST, [images]))
    return root


@pytest.mark.parametrize("form", ["structures", "bytes"])
def test_images_in_rows_are_a_camera(root, make_episode, form):
    frames = [make_episode(seed=seed).camera("left").read(range(6)) for seed in range(2)]
    images = [png(frame) for frame in np.concatenate(frames)]
    if form == "structures":
        images = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    with open_dataset(with_images(root, pa.array(images))).open(1) as episode:
        wrist = episode.camera("wrist")
        assert (len(wrist), wrist.frame_size, wrist.nominal_fps) == (6, (48, 64), 5.0)
        np.testing.assert_array_equal(wrist.read([5, 0]), frames[1][[5, 0]])
        assert wrist.read([]).shape == (0, 48, 64, 3)


@pytest.mark.parametrize(
    "images",
    [None, pa.array([b"x"] * 11 + [None]), pa.array([{"bytes": None, "path": "a.png"}] * 12)],
)
def test_images_that_are_not_there_are_a_bad_camera(root, images):
    episode = open_dataset(with_images(root, images)).open(1)
    with pytest.raises(BadEpisodeError, match=rf"corrupt video: wrist: .*every row of {WRIST}"):
        require_views(episode, ["wrist"])


def test_rows_of_another_episode_are_never_taken(root):
    edit_rows(
        root, lambda table: replaced(table, "episode_index", pa.array([0] * 6 + [1] * 5 + [7]))
    )
    data = open_dataset(root)
    assert len(data.open(0)) == 6
    with pytest.raises(BadEpisodeError, match="wrong rows: rows of episode 7"):
        data.open(1)


def without_cell(table):
    values = table[POSE].to_pylist()
    return replaced(table, POSE, pa.array([*values[:-1], None], pa.list_(pa.float64(), 6)))


def ragged(table):
    values = table[POSE].to_pylist()
    return replaced(table, POSE, pa.array([*values[:-1], values[-1][:5]]))


def narrow(table):
    return replaced(table, POSE, pa.array([row[:5] for row in table[POSE].to_pylist()]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Before version 26 pyarrow refuses the cell itself.
        (
            without_cell,
            "(1 empty cells in column observation.state.cartesian|lists to be of size=6)",
        ),
        (ragged, "rows of column observation.state.cartesian_position .* differ in length"),
        (narrow, r"pose \(6, 5\) and gripper \(6, 1\) make no states"),
        (lambda table: table.slice(0, 11), "has 11 rows; 12 are needed"),
    ],
)
def test_rows_that_make_no_episode_are_named(root, change, message):
    edit_rows(root, change)
    with pytest.raises(BadEpisodeError, match=rf"episode 1: unreadable: .*{message}"):
        open_dataset(root).open(1)


def test_without_stamps_the_clock_is_the_rate(root):
    edit_rows(
        root,
        lambda table: table.drop_columns(
            ["timestamp", "recorded.observation.timestamp.control.step_start"]
        ),
    )
    episode = open_dataset(root).open(1)
    assert episode.clock == "nominal"
    np.testing.assert_allclose(episode.times_s, np.arange(6) / 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_path": None}, "lacks data_path"),
        ({"features": {"action": 7}}, "no features with a dtype each"),
        ({"fps": "five"}, "fps 'five'; expected rows per second"),
        ({"fps": 0}, "fps 0; expected"),
        ({"total_episodes": "many"}, "is damaged"),
    ],
)
def test_a_description_that_lacks_what_is_needed_is_named(root, changes, message):
    edit_info(root, **changes)
    with pytest.raises(CorruptDataError, match=message):
        open_dataset(root)


def test_a_description_of_another_shape_is_named(root):
    (root / "meta/info.json").write_text("[]")
    with pytest.raises(CorruptDataError, match="no JSON object"):
        open_dataset(root)


def test_an_episode_whose_place_is_not_said_is_bad(root):
    edit_info(root, video_path="videos/{no_such_thing}.mp4")
    with pytest.raises(
        BadEpisodeError, match=r"episode 0: .*the meta data of episode 0: .*no_such"
    ):
        open_dataset(root).open(0)


def test_a_list_of_episodes_that_is_missing_is_named(root):
    edit_info(root, codebase_version="v2.1")
    with pytest.raises(CorruptDataError, match=r"episodes\.jsonl cannot be read"):
        open_dataset(root)


def test_lists_of_episodes_that_contradict_each_other_are_named(root):
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    other = replaced(table, "length", pa.array(["six", "six"]))
    pq.write_table(other, root / "meta/episodes/chunk-000/file-001.parquet")
    with pytest.raises(CorruptDataError, match=r"meta/episodes differ"):
        open_dataset(root)


# Writing ----------------------------------------------------------------------------------------


def test_signals_beside_the_known_ones_come_back_under_their_names(tmp_path, make_episode):
    signals = {"observation/robot_state/motor_torques_measured": np.eye(6, 7)}
    with LeRobotWriter(tmp_path, fps=5) as writer:
        writer.add(make_episode(rows=6, signals=signals))
    read = open_dataset(tmp_path).open(0)
    for name, values in signals.items():
        np.testing.assert_array_equal(read.signals[name], values)


def test_a_signal_with_more_axes_than_a_column_has_is_refused(tmp_path, make_episode):
    with (
        LeRobotWriter(tmp_path, fps=5) as writer,
        pytest.raises(InvalidEpisodeError, match=r"recorded\.depth .*\(6, 2, 2\); \[T, k\] fits"),
    ):
        writer.add(make_episode(rows=6, signals={"depth": np.zeros((6, 2, 2))}))


def test_a_data_set_of_another_layout_is_not_added_to(root):
    edit_info(root, data_path="rows/{chunk_index}/{file_index}.parquet")
    with pytest.raises(InvalidEpisodeError, match=r"no v3\.0 data set of this layout"):
        LeRobotWriter(root, fps=5)


def test_an_episode_that_lacks_a_camera_is_refused(root, make_episode):
    with (
        LeRobotWriter(root, fps=5) as writer,
        pytest.raises(InvalidEpisodeError, match=rf"has {WRIST} as nothing; .* has video"),
    ):
        writer.add(make_episode(rows=6, seed=2, views=("left",)))
    assert len(open_dataset(root)) == 2


@pytest.mark.parametrize("damage", ["", "{", "{}", '{"index": {"count": []}}'])
def test_damaged_statistics_are_made_again(root, damage):
    file = root / "meta/stats.json"
    before = json.loads(file.read_text())
    file.write_text(damage)
    LeRobotWriter(root, fps=5).close()
    after = json.loads(file.read_text())
    assert after["index"]["count"] == [12]
    np.testing.assert_allclose(after[POSE]["mean"], before[POSE]["mean"])


class PowerCut(BaseException):
    """Ends a writer without any clean-up of its own."""


def test_a_crash_before_the_first_merge_keeps_what_was_staged(tmp_path, make_episode, monkeypatch):
    def crash(*_arguments):
        raise PowerCut

    writer = LeRobotWriter(tmp_path, fps=5)
    writer.add(make_episode(rows=6, seed=0))
    with monkeypatch.context() as patch:
        patch.setattr(files_module.LeRobotFiles, "merge", crash)
        with pytest.raises(PowerCut):
            writer.close()
    writer._lock.close()
    with (
        LeRobotWriter(tmp_path, fps=5) as again,
        pytest.raises(InvalidEpisodeError, match="the data set has"),
    ):
        again.add(make_episode(rows=6, seed=1, signals={}))
    again.close()  # a second time does no harm
    data = open_dataset(tmp_path)
    assert len(data) == 1
    np.testing.assert_array_equal(data.open(0).states, make_episode(rows=6, seed=0).states)


def test_a_damaged_stage_is_named_and_the_folder_is_free_again(root):
    staged = root / ".staged/000000"
    staged.mkdir(parents=True)
    (staged / "episode.json").write_text("{")
    with pytest.raises(CorruptDataError, match=r"000000 is damaged .*; remove it"):
        LeRobotWriter(root, fps=5)
    (staged / "episode.json").unlink()
    staged.rmdir()
    LeRobotWriter(root, fps=5).close()
    assert len(open_dataset(root)) == 2
