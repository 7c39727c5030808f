"""The recipes that are shipped: valid, and as published where they say so."""

from pathlib import Path

import pytest

from training.config import load_recipe
from training.probes.command import describe_probing
from training.probes.config import ProbeConfig

FOLDER = Path(__file__).parents[3] / "configs" / "probes"
RECIPES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def recipe(name):
    return load_recipe(FOLDER / name, ProbeConfig)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_is_valid_and_has_a_plan(name):
    found = recipe(name)
    assert f"{len(found.all_heads()) or 'no'} heads" in describe_probing(found)


@pytest.mark.parametrize("size", ["vitl", "vitg384"])
@pytest.mark.parametrize(
    ("task", "heads", "classes"),
    [
        ("ssv2", 20, 174), ("k400", 20, 400), ("coin", 20, 180), ("diving48", 3, 48),
        ("jester", 3, 27), ("in1k", 21, None), ("ek100", 20, None),
    ],
)  # fmt: skip
def test_published_grids_have_as_many_heads_as_published(task, size, heads, classes):
    found = recipe(f"{task}_{size}.yaml")
    assert len(found.all_heads()) == heads
    assert getattr(found.data, "classes", None) == classes


def test_the_warm_up_of_imagenet_begins_at_one_rate_for_all_heads():
    found = recipe("in1k_vitl.yaml")
    *warmed, last = found.all_heads()
    starts = [head.rate * head.rate_share.at(0, found.steps) for head in warmed]
    assert starts == pytest.approx([2e-4] * 20, rel=1e-4)
    epoch = found.run.validate_every
    peaks = [head.rate * head.rate_share.at(5 * epoch, found.steps) for head in warmed]
    assert peaks == pytest.approx([head.rate for head in warmed])
    assert last.rate_share.at(1, found.steps) == pytest.approx(1.0)
    assert last.decay_share.at(found.steps, found.steps) == pytest.approx(0.0)
    assert all(head.decay_share.at(1, found.steps) == 1.0 for head in warmed)
