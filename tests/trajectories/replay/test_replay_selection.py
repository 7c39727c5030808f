"""Which episodes and steps a replay asks about, and what it says about those that it cannot use."""

import json
import shutil

import numpy as np
import pytest

from trajectories.batch import Tally
from trajectories.cameras import ArrayCamera
from trajectories.droid_raw_writer import write_episode
from trajectories.lerobot.keys import LEROBOT_DROID
from trajectories.replay.selection import Selection

PERIOD_S = 0.4  # two rows of the made-up episodes


def read(paths, settings, horizon=1, limit=None, period_s=PERIOD_S):
    tally = Tally()
    found = []
    for selected in Selection.of([str(path) for path in paths], settings, limit).read(
        period_s, horizon, tally
    ):
        found.append((selected.episode.name, selected.view, [span.step for span in selected.asked]))
    return found, tally


def test_episodes_come_at_the_control_period_in_order(raw_tree, replay_settings):
    found, tally = read([raw_tree], replay_settings(goal_steps=1, view="auto"))
    assert [name.rsplit("/", 1)[-1] for name, _, _ in found] == ["run_0", "run_1", "run_2"]
    assert {view for _, view, _ in found} == {"left"}
    assert found[0][2] == [0, 1, 2, 3]  # 10 rows make 5 control steps, 4 motions
    assert not tally.bad


def test_the_same_name_under_two_paths_stays_apart(raw_tree, tmp_path, replay_settings):
    shutil.copytree(raw_tree, tmp_path / "other")
    found, _ = read([raw_tree, tmp_path / "other"], replay_settings(goal_steps=1))
    names = [name for name, _, _ in found]
    assert len(set(names)) == 6
    assert names[0].startswith("droid/")
    assert names[-1].startswith("other/")


def test_bad_episodes_are_named_with_the_reason_and_the_others_go_on(
    raw_tree, raw_folder, tmp_path, make_episode, replay_settings
):
    day = raw_folder.parent
    (metadata,) = (day / "run_1").glob("metadata_*.json")
    shutil.copy(metadata, day / "run_1" / "metadata_second.json")
    (metadata,) = (day / "run_2").glob("metadata_*.json")
    metadata.unlink()
    nan = make_episode(rows=8, seed=4)
    nan.states[3] = np.nan
    millimetres = make_episode(rows=8, seed=5)
    millimetres.states[:, :3] *= 1000
    short = make_episode(rows=1, seed=6)
    for name, episode in (("nan", nan), ("mm", millimetres), ("short", short)):
        write_episode(episode, day / name)
    blind = make_episode(rows=8, seed=7, views=("wrist",))
    write_episode(blind, day / "blind")
    found, tally = read([raw_tree], replay_settings(goal_steps=1, view="left"))
    assert [name.rsplit("/", 1)[-1] for name, _, _ in found] == ["run_0"]
    reasons = {error.name.rsplit("/", 1)[-1]: str(error) for error in tally.bad}
    assert set(reasons) == {"run_1", "run_2", "nan", "mm", "short", "blind"}
    assert "json" in reasons["run_1"]
    assert "not finite" in reasons["nan"]
    assert "metres" in reasons["mm"]
    assert "one control period" in reasons["short"]
    assert "left" in reasons["blind"]


def test_rows_too_sparse_for_the_control_period_are_a_reason_too(raw_tree, replay_settings):
    found, tally = read([raw_tree], replay_settings(goal_steps=1), period_s=0.05)
    assert not found
    assert all("too sparse" in str(error) for error in tally.bad)


def test_the_legacy_clock_strides_by_the_rate_of_the_video_file(
    tmp_path, make_episode, replay_settings
):
    frames = np.zeros((12, 16, 16, 3), np.uint8)
    episode = make_episode(rows=12, cameras={"left": ArrayCamera(frames, nominal_fps=8.0)})
    write_episode(episode, tmp_path / "run")
    settings = replay_settings(goal_steps=1, clock="legacy_video_fps")
    found, tally = read([tmp_path], settings)
    assert not tally.bad
    stride = int(np.ceil(episode.fps / 4))  # the writer plays at the rows' rate
    assert len(found[0][2]) == len(range(0, 12, stride)) - 1


def test_draws_are_the_same_for_a_seed_and_lie_inside_the_episodes(raw_tree, replay_settings):
    settings = replay_settings(goal_steps=2, draws=5, seed=3)
    found, _ = read([raw_tree], settings, horizon=2)
    again, _ = read([raw_tree], settings, horizon=2)
    other, _ = read([raw_tree], replay_settings(goal_steps=2, draws=5, seed=4), horizon=2)
    assert found == again
    assert found != other
    for _, _, steps in found:
        assert len(set(steps)) == len(steps)
        assert max(steps) + 2 <= 5


def test_the_limit_counts_episodes(raw_tree, replay_settings):
    found, _ = read([raw_tree], replay_settings(goal_steps=1), limit=2)
    assert len(found) == 2
    selection = Selection.of([str(raw_tree)], replay_settings(goal_steps=1), 2)
    assert selection.count() == 2


@pytest.mark.parametrize("version", ["v1.6", "v9.0"])
def test_an_unknown_lerobot_version_is_named(tmp_path, replay_settings, version):
    from trajectories.errors import TrajectoryError

    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"codebase_version": version}))
    with pytest.raises(TrajectoryError, match=version):
        Selection.of([str(tmp_path)], replay_settings(goal_steps=1))


def test_without_the_usual_camera_the_first_one_is_taken(tmp_path, make_episode, replay_settings):
    write_episode(make_episode(views=("wrist",), extrinsics={}), tmp_path / "run")
    found, tally = read([tmp_path], replay_settings(goal_steps=1, view="auto"))
    assert [view for _, view, _ in found] == ["wrist"]
    assert not tally.bad


def test_draws_from_a_data_set_without_episodes_are_none(tmp_path, replay_settings):
    (tmp_path / "meta").mkdir()
    info = {"codebase_version": "v2.1", "fps": 5, "data_path": "x", "chunks_size": 1}
    features = {key: {"dtype": "float64"} for key in (LEROBOT_DROID.pose, LEROBOT_DROID.gripper)}
    (tmp_path / "meta/info.json").write_text(json.dumps({**info, "features": features}))
    (tmp_path / "meta/episodes.jsonl").write_text("")
    selection = Selection.of([str(tmp_path)], replay_settings(goal_steps=1, draws=3))
    assert selection.count() == 0
