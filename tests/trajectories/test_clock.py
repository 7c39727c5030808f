"""Time: rows are chosen by when they were measured, or by the reference's clock when asked to."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trajectories.clock import legacy_rows, resample, resample_legacy, rows_at_period
from trajectories.errors import ClockError

gaps = st.lists(st.floats(0.02, 0.1), min_size=5, max_size=60)


@given(gaps, st.floats(0.2, 1.0), st.integers(0, 4))
def test_every_chosen_row_is_the_one_nearest_to_its_instant(steps, period_s, first_row):
    times_s = np.cumsum([0.0, *steps])
    rows = rows_at_period(times_s, period_s, first_row)
    instants = times_s[first_row] + period_s * np.arange(len(rows))
    for row, instant in zip(rows, instants, strict=True):
        assert np.abs(times_s - instant).min() == pytest.approx(abs(times_s[row] - instant))
    assert (np.diff(rows) > 0).all()
    assert rows[0] == first_row
    assert instants[-1] <= times_s[-1] + 1e-6 < instants[-1] + period_s + 1e-5


@given(st.integers(1, 12), st.integers(2, 60))
def test_a_steady_clock_gives_a_stride(stride, count):
    times_s = np.arange(count * stride) / 15
    np.testing.assert_array_equal(
        rows_at_period(times_s, stride / 15), np.arange(0, len(times_s), stride)
    )


@given(gaps, st.integers(2, 5))
def test_a_window_has_the_rows_it_was_asked_for_or_none(steps, count):
    times_s = np.cumsum([0.0, *steps])
    assume(times_s[-1] > (count - 1) * 0.2)
    assert len(rows_at_period(times_s, 0.2, 0, count)) == count
    with pytest.raises(ClockError, match="goes on for"):
        rows_at_period(times_s, 0.2, 0, 2 + int(times_s[-1] / 0.2))


def test_rows_that_are_too_sparse_are_refused():
    with pytest.raises(ClockError, match=r"too sparse for a period of 0\.1 s"):
        rows_at_period(np.arange(10) / 5, 0.1)


def test_a_gap_is_refused_and_not_filled_with_the_row_beside_it():
    times_s = np.concatenate([np.arange(10), 14 + np.arange(10)]) / 5
    with pytest.raises(ClockError, match=r"no row of its own at 2\.\d\d s"):
        rows_at_period(times_s, 0.2)


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_period_has_to_be_positive(period_s):
    with pytest.raises(ClockError, match="positive"):
        rows_at_period(np.arange(3.0), period_s)


def test_the_legacy_clock_strides_by_the_rate_of_the_video():
    # 60 frames/s of video and 4 asked for: every 15th row, one second at DROID's 15 rows/s.
    np.testing.assert_array_equal(legacy_rows(50, 60.0), [0, 15, 30, 45])
    np.testing.assert_array_equal(legacy_rows(10, 29.97, 10.0, first_row=1), [1, 4, 7])
    with pytest.raises(ClockError, match="positive"):
        legacy_rows(10, 0.0)


def test_resampling_keeps_rows_frames_and_signals_together(make_episode):
    episode = make_episode(rows=21)
    thin = resample(episode, 1.0)
    np.testing.assert_array_equal(thin.states, episode.states[::5])
    np.testing.assert_allclose(thin.times_s, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(
        thin.camera("left").read([4, 1]), episode.camera("left").read([20, 5])
    )
    for name, values in thin.signals.items():
        np.testing.assert_array_equal(values, episode.signals[name][::5])
    assert thin.fps == pytest.approx(1.0)


def test_resampling_by_the_legacy_clock_needs_a_rate(make_episode):
    episode = make_episode(rows=31)
    with pytest.raises(ClockError, match="give video_fps"):
        resample_legacy(episode, "left")
    thin = resample_legacy(episode, "left", video_fps=60.0)
    np.testing.assert_array_equal(thin.states, episode.states[[0, 15, 30]])
    assert thin.times_s[1] == pytest.approx(3.0)  # what it is in real time
