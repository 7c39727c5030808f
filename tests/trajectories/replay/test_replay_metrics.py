"""Errors of planned motions: their laws, and the published score."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from trajectories import poses
from trajectories.replay import metrics
from trajectories.replay.baselines import constant_velocity, oracle, random_actions


def actions(seed, steps=6, horizon=3, size=0.1):
    return np.random.default_rng(seed).uniform(-size, size, (steps, horizon, 7))


def test_the_recorded_motion_itself_has_no_error_and_the_perfect_score():
    recorded = actions(0)
    errors = metrics.motion_errors(recorded, recorded)
    for name in ("end_distance_xyz_m", "end_distance_orientation_rad", "end_distance_closure"):
        assert not getattr(errors, name).any()
    assert not errors.distance_m.any()
    assert errors.rotation_rad == pytest.approx(0.0, abs=1e-7)
    assert errors.direction_cosine == pytest.approx(1.0)
    assert metrics.action_score(errors.end_distance_xyz_m) == pytest.approx(80.0)


def test_end_distances_are_sums_of_absolute_net_errors_per_axis():
    planned, recorded = np.zeros((1, 2, 7)), np.zeros((1, 2, 7))
    planned[0, :, 0] = 0.01, 0.02
    recorded[0, :, 0] = 0.05, -0.03  # net 2 cm, on another path
    recorded[0, 0, 2] = -0.04
    recorded[0, 1, 4], recorded[0, 1, 6] = 0.3, -0.5
    errors = metrics.motion_errors(planned, recorded)
    assert errors.end_distance_xyz_m == pytest.approx(0.01 + 0.04)
    assert errors.distance_m == pytest.approx(np.hypot(0.01, 0.04))
    assert errors.end_distance_orientation_rad == pytest.approx(0.3)
    assert errors.end_distance_closure == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("distance_cm", "score"),
    [(3.98, 48.16), (4.64, 42.88), (5.08, 39.36), (10.0, 0.0), (0.0, 80.0)],
)
def test_score_of_published_distances(distance_cm, score):
    assert metrics.action_score(distance_cm / 100) == pytest.approx(score, abs=1e-9)


def test_the_maximum_of_the_score_is_taken_of_the_mean_not_of_single_steps():
    assert metrics.action_score(np.array([0.0, 0.15])) == pytest.approx(800 * 0.025)
    assert metrics.action_score(np.array([0.0, 0.9])) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_rotation_error_is_the_angle_between_the_composed_rotations(seed):
    planned, recorded = actions(seed, size=1.0), actions(seed + 100, size=1.0)
    found = metrics.motion_errors(planned, recorded).rotation_rad
    for index, (ours, theirs) in enumerate(zip(planned, recorded, strict=True)):
        nets = []
        for rows in (ours, theirs):
            net = Rotation.identity()
            for row in rows:
                net = Rotation.from_euler("xyz", row[poses.ROTATION]) * net
            nets.append(net)
        assert found[index] == pytest.approx((nets[0] * nets[1].inv()).magnitude(), abs=1e-9)


def test_a_motion_too_short_to_point_anywhere_has_no_direction():
    first = np.array([[0.1, 0, 0], [0.001, 0, 0], [0, 0.2, 0]])
    second = np.array([[-0.3, 0, 0], [0.1, 0, 0], [0, 0.1, 0.1]])
    cosine = metrics.direction_cosine(first, second)
    assert cosine[0] == pytest.approx(-1)
    assert np.isnan(cosine[1])
    assert cosine[2] == pytest.approx(np.sqrt(0.5))


def test_rank_is_zero_for_the_least_one_for_the_largest_and_half_for_a_tie():
    others = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.rank_among(0.0, others) == 0.0
    assert metrics.rank_among(9.0, others) == 1.0
    assert metrics.rank_among(2.5, others) == 0.5
    assert metrics.rank_among(5.0, np.full(7, 5.0)) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        metrics.rank_among(1.0, np.empty(0))


@pytest.mark.parametrize("seed", range(4))
def test_monotonicity_is_minus_the_rank_correlation_with_time(seed):
    energies = np.random.default_rng(seed).integers(0, 6, 15).astype(float)  # with ties
    expected = -spearmanr(np.arange(15), energies).statistic
    assert metrics.monotonicity(energies) == pytest.approx(expected)


def test_a_steady_fall_is_monotone_and_a_constant_energy_says_nothing():
    falling = np.exp(-np.arange(9.0))
    assert metrics.monotonicity(falling) == pytest.approx(1)
    assert metrics.monotonicity(falling[::-1]) == pytest.approx(-1)
    assert metrics.falling_share(falling) == 1
    assert np.isnan(metrics.monotonicity(np.ones(9)))
    assert np.isnan(metrics.monotonicity(falling[:2]))


def test_baselines_stay_inside_the_box():
    box = np.array([0.1, 0.1, 0.1, 0, 0, 0.2, 1])
    recorded = actions(1, size=2.0)[0]
    drawn = random_actions(500, 3, box, seed=4)
    for motion in (oracle(recorded, box), constant_velocity(recorded[0], 3, box), drawn):
        assert (np.abs(motion) <= box).all()
    assert np.abs(drawn[..., 3]).max() == 0
    assert np.abs(drawn[..., 0]).max() > 0.095
    assert not constant_velocity(None, 3, box).any()
    np.testing.assert_array_equal(drawn, random_actions(500, 3, box, seed=4))
