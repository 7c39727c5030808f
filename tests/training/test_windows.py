"""Windows: where they may lie, how often each is drawn, and what happens to unreadable ones."""

import numpy as np
import pytest
import torch

from training.episodes import LiveEpisodes, episode_of
from training.errors import ConfigurationError, DataError
from training.recordings import open_recordings
from training.windows import WindowSampler, WindowSettings, check_strides, split_episodes
from trajectories.errors import CorruptDataError
from trajectories.poses import compose


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_windows_stay_within_an_episode_and_actions_lead_from_state_to_state(linear_episodes):
    data = linear_episodes()
    sampler = WindowSampler(data, data.episodes, WindowSettings(frames=3, strides=(1, 2)))
    for place in sampler.draw(100, generator()):
        steps = set(np.diff(place.rows))
        assert len(steps) == 1
        assert steps <= {1, 2}
        assert 0 <= place.rows[0] <= place.rows[-1] < 6
    windows = sampler.sample(50, generator())
    reached = compose(windows.states[:, :-1].double().numpy(), windows.actions.double().numpy())
    np.testing.assert_allclose(reached[..., :3], windows.states[:, 1:, :3].numpy(), atol=1e-6)


def test_steps_that_the_planner_may_not_choose_are_left_out(linear_episodes):
    data = linear_episodes()
    settings = WindowSettings(frames=2, strides=(1, 3), max_step_m=0.08)
    sampler = WindowSampler(data, data.episodes, settings)
    assert sampler.sample(200, generator()).actions[:, 0, :3].abs().max() <= 0.08
    assert len(sampler) < len(WindowSampler(data, data.episodes, WindowSettings(2, (1, 3))))


def test_every_window_is_drawn_about_as_often(linear_episodes):
    data = linear_episodes(episodes=2)
    sampler = WindowSampler(data, data.episodes, WindowSettings(frames=2, strides=(1, 2)))
    places = sampler.draw(18 * 200, generator())
    counts = {}
    for place in places:
        key = (place.episode, *place.rows)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == len(sampler) == 2 * (5 + 4)
    assert 120 < min(counts.values()) <= max(counts.values()) < 280


def test_episodes_of_any_length_are_drawn_alike_where_asked(linear_episodes):
    data = linear_episodes(episodes=2)
    data._states["001"] = data._states["001"][:3]
    by_window, by_episode = (
        [p.episode for p in WindowSampler(data, data.episodes, settings).draw(600, generator())]
        for settings in (WindowSettings(frames=2), WindowSettings(frames=2, draw="episodes"))
    )
    assert by_window.count("001") / 600 == pytest.approx(2 / 7, abs=0.06)
    assert by_episode.count("001") / 600 == pytest.approx(1 / 2, abs=0.06)


def test_cameras_are_mixed_as_configured(linear_episodes):
    data = linear_episodes(views=("left", "right", "wrist"))
    settings = WindowSettings(frames=2, views={"left": 3.0, "wrist": 1.0})
    views = [p.view for p in WindowSampler(data, data.episodes, settings).draw(1000, generator())]
    assert set(views) == {"left", "wrist"}
    assert views.count("left") / 1000 == pytest.approx(0.75, abs=0.05)


def test_an_unknown_camera_is_refused_with_those_there_are(linear_episodes):
    data = linear_episodes(views=("left", "wrist"))
    with pytest.raises(DataError, match=r"top; they have left, wrist"):
        WindowSampler(data, data.episodes, WindowSettings(frames=2, views={"top": 1.0}))


def test_episodes_that_are_too_short_are_refused(linear_episodes):
    data = linear_episodes(length=4)
    with pytest.raises(DataError, match="5 frames at strides"):
        WindowSampler(data, data.episodes, WindowSettings(frames=5))


def test_same_numbers_draw_the_same_windows(linear_episodes):
    data = linear_episodes()
    sampler = WindowSampler(data, data.episodes, WindowSettings(frames=2, strides=(1, 3)))
    assert sampler.sample(9, generator(4)).names == sampler.sample(9, generator(4)).names
    assert sampler.sample(9, generator(4)).names != sampler.sample(9, generator(5)).names


class Scratched:
    """Recordings of which some episodes cannot be decoded."""

    def __init__(self, recordings, bad):
        self._recordings, self._bad = recordings, bad

    def __getattr__(self, name):
        return getattr(self._recordings, name)

    def frames(self, episode, view, rows):
        if episode in self._bad:
            raise CorruptDataError(f"{episode} is scratched")
        return self._recordings.frames(episode, view, rows)


def test_an_unreadable_window_is_replaced_and_reported(shards):
    recordings = Scratched(open_recordings(shards, None), {"000002"})
    sampler = WindowSampler(LiveEpisodes(recordings), recordings.episodes, WindowSettings(2))
    windows = sampler.sample(20, generator())
    assert len(windows.frames) == len(windows.names) == 20
    assert windows.skipped
    assert all("000002 is scratched" in reason for reason in windows.skipped)
    assert "000002" not in {episode_of(name) for name in windows.names}


def test_data_that_cannot_be_read_at_all_end_in_an_error_that_lists_them(shards):
    recordings = open_recordings(shards, None)
    scratched = Scratched(recordings, set(recordings.episodes))
    sampler = WindowSampler(LiveEpisodes(scratched), scratched.episodes, WindowSettings(2))
    with pytest.raises(DataError, match="is scratched") as caught:
        sampler.sample(4, generator())
    assert str(caught.value).count("is scratched") > 3


def test_an_episode_stays_on_its_side_of_the_split_when_the_data_grow():
    few = [f"episode {number}" for number in range(200)]
    more = [f"episode {number}" for number in range(400)]
    learned, held = split_episodes(few, 0.2)
    assert set(held) <= set(split_episodes(more, 0.2)[1])
    assert sorted(learned + held) == sorted(few)
    assert 20 <= len(held) <= 60


def test_at_least_one_episode_is_held_out_and_one_learned_from():
    assert [len(part) for part in split_episodes(["a", "b"], 0.001)] == [1, 1]
    assert split_episodes(["a", "b"], 0.0) == (["a", "b"], [])
    with pytest.raises(DataError, match="too few"):
        split_episodes(["a"], 0.5)


@pytest.mark.parametrize(
    ("strides", "row_period_s"), [((4, 4), 0.265), ((1, 3), 1.06), ((15, 15), 1 / 15)]
)
def test_strides_that_span_a_control_period_are_accepted(strides, row_period_s):
    check_strides(strides, row_period_s, 1.06)


def test_the_file_rate_taken_for_the_robot_rate_is_refused():
    with pytest.raises(ConfigurationError, match="use a stride of 16 rows"):
        check_strides((4, 4), 1 / 15, 1.06)
