"""One episode: selection, camera frames, and what is said when something is missing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from trajectories.errors import InvalidEpisodeError, MissingCameraError
from trajectories.poses import compose, seen_from


def transforms(pose):
    matrix = np.tile(np.eye(4), (len(pose), 1, 1))
    matrix[:, :3, :3] = Rotation.from_euler("xyz", pose[:, 3:6]).as_matrix()
    matrix[:, :3, 3] = pose[:, :3]
    return matrix


def test_states_in_the_camera_frame_are_the_inverse_camera_times_the_pose(make_episode):
    episode = make_episode()
    seen = episode.in_camera_frame("left")
    expected = np.linalg.inv(transforms(episode.extrinsics["left"])) @ transforms(episode.states)
    assert_allclose(transforms(seen.states), expected, atol=1e-9)
    assert_allclose(seen.states[:, 6], episode.states[:, 6])


def test_a_frame_seen_from_itself_is_the_identity():
    pose = np.array([0.4, 0.1, 0.3, 3.0, 0.1, -2.0, 0.3])
    assert_allclose(seen_from(pose[:6], pose), [0, 0, 0, 0, 0, 0, 0.3], atol=1e-12)


def test_actions_lead_from_each_state_to_the_next(make_episode):
    episode = make_episode()
    reached = compose(episode.states[:-1], episode.actions)
    assert_allclose(transforms(reached), transforms(episode.states[1:]), atol=1e-9)


def test_what_is_not_there_is_named_with_what_is(make_episode):
    episode = make_episode()
    with pytest.raises(MissingCameraError, match=r"no camera 'right'; it has left, wrist"):
        episode.camera("right")
    with pytest.raises(MissingCameraError, match="'wrist' stood; known: left"):
        episode.in_camera_frame("wrist")


@pytest.mark.parametrize("rows", [[], [3, 2], [1, 1], [-1, 2], [0, 12]])
def test_rows_to_select_have_to_ascend_within_the_episode(make_episode, rows):
    with pytest.raises(InvalidEpisodeError):
        make_episode(rows=12).select(rows)


def test_selecting_twice_is_selecting_once(make_episode):
    episode = make_episode(rows=12)
    twice = episode.select([1, 3, 5, 9]).select([1, 3])
    once = episode.select([3, 9])
    np.testing.assert_array_equal(twice.states, once.states)
    np.testing.assert_allclose(twice.times_s, once.times_s)
    np.testing.assert_array_equal(
        twice.camera("wrist").read([0, 1]), once.camera("wrist").read([0, 1])
    )
