"""Intervals that resample episodes, and paired comparisons."""

import numpy as np
import pytest

from trajectories.replay.statistics import compare, estimate


def clustered(seed, episodes=20, steps=8, between=1.0, within=0.3):
    """Values whose episodes differ: mean 0, drawn per episode and per step."""
    random = np.random.default_rng(seed)
    offsets = random.normal(0, between, episodes)
    values = (offsets[:, None] + random.normal(0, within, (episodes, steps))).ravel()
    return values, np.repeat([f"e{i}" for i in range(episodes)], steps).tolist()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        found = estimate(*clustered(seed), resamples=400)
        hits += found.low <= 0.0 <= found.high
    assert 0.88 <= hits / 200 <= 1.0  # a percentile interval of 20 episodes is a little narrow


def test_more_steps_of_the_same_episodes_do_not_make_the_mean_surer():
    values, episodes = clustered(3, within=0.0)
    once = estimate(values, episodes)
    often = estimate(np.repeat(values, 10), np.repeat(episodes, 10).tolist())
    assert often.mean == pytest.approx(once.mean)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=1e-9)


def test_the_order_of_the_steps_does_not_matter():
    values, episodes = clustered(5)
    order = np.random.default_rng(0).permutation(len(values))
    shuffled = estimate(values[order], [episodes[i] for i in order])
    assert shuffled.low == pytest.approx(estimate(values, episodes).low)


def test_one_episode_gives_a_mean_and_no_interval():
    found = estimate(np.array([1.0, 3.0]), ["a", "a"])
    assert (found.mean, found.low, found.high, found.episodes) == (2.0, None, None, 1)


def test_what_is_not_known_is_left_out():
    found = estimate(np.array([1.0, np.nan, 3.0, np.nan]), ["a", "a", "b", "c"])
    assert (found.mean, found.steps, found.episodes) == (2.0, 2, 2)
    nothing = estimate(np.full(3, np.nan), ["a", "b", "c"])
    assert np.isnan(nothing.mean)
    assert nothing.steps == 0


def test_a_number_that_no_step_has_makes_no_difference_and_no_certainty():
    found = compare(np.full(3, np.nan), np.ones(3), ["a", "b", "c"])
    assert np.isnan([found.p_value, found.difference.mean, found.share_b_lower]).all()
    assert (found.smallest_p, found.is_sure) == (1.0, False)


def test_as_many_episode_names_as_values_are_needed():
    with pytest.raises(ValueError, match="2 values for 1"):
        estimate(np.zeros(2), ["a"])


def test_a_clear_difference_is_found_though_the_episodes_differ_more():
    values, episodes = clustered(7, between=5.0)
    random = np.random.default_rng(1)
    found = compare(values, values - 0.5 + random.normal(0, 0.2, len(values)), episodes)
    assert found.difference.high < 0
    assert found.p_value < 0.01
    assert found.share_b_lower > 0.9


def test_swapping_the_two_turns_the_sign_and_keeps_the_p_value():
    values, episodes = clustered(9, episodes=8)
    others = values + np.random.default_rng(2).normal(0.1, 0.3, len(values))
    forward, back = compare(values, others, episodes), compare(others, values, episodes)
    assert forward.difference.mean == pytest.approx(-back.difference.mean)
    assert forward.p_value == pytest.approx(back.p_value)
    assert forward.share_b_lower == pytest.approx(1 - back.share_b_lower)


def test_no_difference_has_p_one_and_few_episodes_cannot_give_a_small_p():
    values, episodes = clustered(1, episodes=4)
    same = compare(values, values, episodes)
    assert same.p_value == 1
    assert same.share_b_lower == 0.5
    lower = compare(values, values - 1.0, episodes)
    assert lower.p_value == lower.smallest_p == 2 / 16


def test_p_values_of_chance_are_spread_evenly():
    p_values = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        values = random.normal(0, 1, 10)
        p_values.append(compare(np.zeros(10), values, [str(i) for i in range(10)]).p_value)
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.07)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)
