import dataclasses

import numpy as np
import pytest

from simulation.evaluation.conditions import CONDITIONS, vary
from simulation.tasks import make_task
from simulation.variation import sample_variation

TRAINING = [sample_variation(seed) for seed in range(400)]
CHANGED = {
    "colours": {"object_rgb", "table_rgb", "floor_rgb", "wall_rgb", "robot_rgb"},
    "lights": {"light_position_m", "light_intensity", "ambient"},
    "camera": {"camera_offset_m", "camera_aim_offset_m", "camera_fovy_deg"},
}


def values(variation, field):
    return np.atleast_1d(np.asarray(getattr(variation, field), np.float64))


def spread(field):
    """The smallest and largest value of a field in training, per component."""
    drawn = np.array([values(variation, field) for variation in TRAINING])
    return drawn.min(axis=0), drawn.max(axis=0)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_changes_its_own_part_of_the_workcell_and_nothing_else(condition):
    for seed in range(20):
        drawn, varied = sample_variation(seed, "cup"), vary(seed, condition, "cup")
        differing = {
            field.name
            for field in dataclasses.fields(drawn)
            if getattr(drawn, field.name) != getattr(varied, field.name)
        }
        assert differing == CHANGED.get(condition, set())
        assert vary(seed, condition, "cup") == varied


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ("colours", "table_rgb"),
        ("colours", "floor_rgb"),
        ("colours", "wall_rgb"),
        ("colours", "robot_rgb"),
        ("lights", "light_intensity"),
        ("lights", "ambient"),
        ("camera", "camera_offset_m"),
        ("camera", "camera_aim_offset_m"),
        ("camera", "camera_fovy_deg"),
    ],
)
def test_every_component_lies_outside_of_the_range_of_training(condition, field):
    low, high = spread(field)
    for seed in range(200):
        value = values(vary(seed, condition), field)
        assert ((value < low) | (value > high)).all(), (seed, value, low, high)


def test_unseen_lights_come_from_the_side_and_low():
    low, high = spread("light_position_m")
    for seed in range(200):
        _, y, z = vary(seed, "lights").light_position_m
        assert not low[1] <= y <= high[1]
        assert z < low[2]


def test_unseen_object_colours_are_far_from_those_of_training():
    seen = np.array([variation.object_rgb for variation in TRAINING])
    for seed in range(200):
        distance = np.abs(seen - vary(seed, "colours").object_rgb).max(axis=1).min()
        assert distance > 0.1


def test_a_shifted_task_starts_and_ends_where_the_seed_says():
    plain = make_task("pick_and_place", 4, object_kind="box")
    shifted = make_task("pick_and_place", 4, variation=vary(4, "camera", "box"))
    assert np.array_equal(plain.start, shifted.start)
    assert plain.place_m == shifted.place_m
    assert not np.array_equal(plain.sub_goals[0].image, shifted.sub_goals[0].image)
