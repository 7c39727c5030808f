import numpy as np
import pytest

from simulation.kinematics import tcp_position
from simulation.stepper import WORKSPACE
from simulation.variation import (
    OBJECT_KINDS,
    OBJECT_X_M,
    OBJECT_Y_M,
    TABLE_PATTERNS,
    sample_variation,
)
from simulation.workcell import scene_xml


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**40])
def test_the_same_seed_gives_the_same_workcell(seed):
    assert sample_variation(seed) == sample_variation(seed)
    assert scene_xml(sample_variation(seed)) == scene_xml(sample_variation(seed))


def test_different_seeds_give_different_workcells():
    assert len({sample_variation(seed) for seed in range(50)}) == 50


def test_fixing_the_object_changes_nothing_else():
    for seed in range(20):
        cube, cup = sample_variation(seed, "cube"), sample_variation(seed, "cup")
        assert (cube.object_kind, cup.object_kind) == ("cube", "cup")
        assert {k: v for k, v in vars(cube).items() if k != "object_kind"} == {
            k: v for k, v in vars(cup).items() if k != "object_kind"
        }


def test_every_kind_of_difference_occurs():
    variations = [sample_variation(seed) for seed in range(200)]
    assert {v.object_kind for v in variations} == set(OBJECT_KINDS)
    assert {v.table_pattern for v in variations} == set(TABLE_PATTERNS)
    assert {len(v.distractors) for v in variations} == {0, 1, 2, 3}
    assert {d.shape for v in variations for d in v.distractors} == {"box", "cylinder", "sphere"}


def test_objects_stand_where_the_gripper_gets_and_distractors_where_it_does_not():
    half_hand_m = 0.11
    for seed in range(200):
        variation = sample_variation(seed)
        assert OBJECT_X_M[0] <= variation.object_position_m[0] <= OBJECT_X_M[1]
        assert OBJECT_Y_M[0] <= variation.object_position_m[1] <= OBJECT_Y_M[1]
        for distractor in variation.distractors:
            beyond_y = abs(distractor.position_m[1]) + distractor.size_m - WORKSPACE.high[1]
            assert beyond_y > half_hand_m - 0.02


def test_tcp_of_the_lowest_flange_is_above_the_table():
    lowest = np.array([0.4, 0.0, WORKSPACE.low[2], -3.0707640, -0.0706516, -0.7879023, 0.0])
    assert 0.015 < tcp_position(lowest)[2] < 0.03
