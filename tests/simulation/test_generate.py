from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from simulation import generate as generator
from simulation.episodes import halve, simulate_episode
from simulation.errors import InvalidRecipeError, OutputExistsError
from simulation.generate import generate
from simulation.recipe import Motion, Recipe, load_recipe
from trajectories.shards import open_shards


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(generator, "EPISODES_PER_SHARD", 2)


def test_an_episode_depends_on_seed_and_index_alone():
    first, again = simulate_episode(Recipe(seed=3), 5), simulate_episode(Recipe(seed=3), 5)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.states, again.states)
    assert first.frames.shape == (16, 128, 128, 3)
    assert first.states.shape == (16, 7)
    assert np.isfinite(first.states).all()
    assert (simulate_episode(Recipe(seed=3), 6).frames != first.frames).any()
    assert (simulate_episode(Recipe(seed=4), 5).frames != first.frames).any()


def test_data_do_not_depend_on_the_number_of_workers(tmp_path, small_shards):
    recipe = Recipe(episodes=5, seed=9)
    assert generate(tmp_path / "one", recipe, workers=1) == 5
    assert generate(tmp_path / "two", recipe, workers=2) == 5
    one, two = open_shards(tmp_path / "one"), open_shards(tmp_path / "two")
    assert len(one) == len(two) == 5
    assert one.tasks == two.tasks
    np.testing.assert_array_equal(one.states, two.states)
    for episode in range(5):
        np.testing.assert_array_equal(one.frames(episode), two.frames(episode))


def test_an_interrupted_run_is_continued(tmp_path, small_shards, monkeypatch):
    recipe, written = Recipe(episodes=4, seed=2), []

    class InProcessPool:
        def __init__(self, workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

        def imap_unordered(self, function, jobs):
            written.extend(job.first for job in jobs)
            return map(function, jobs)

    class InProcess:
        Pool = InProcessPool

    monkeypatch.setattr(generator.multiprocessing, "get_context", lambda kind: InProcess)
    generate(tmp_path, recipe)
    before = open_shards(tmp_path).states
    for file in (tmp_path / "shard-00001").iterdir():
        file.unlink()
    (tmp_path / "shard-00001").rmdir()
    assert generate(tmp_path, recipe) == 2
    assert written == [0, 2, 2]
    np.testing.assert_array_equal(open_shards(tmp_path).states, before)
    assert generate(tmp_path, recipe) == 0


def test_a_folder_with_other_data_is_refused(tmp_path):
    generator.claim(tmp_path / "a", Recipe(episodes=4, seed=2))
    with pytest.raises(OutputExistsError, match="same recipe"):
        generator.claim(tmp_path / "a", Recipe(episodes=4, seed=3))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(OutputExistsError, match="not empty"):
        generator.claim(tmp_path / "b", Recipe(episodes=4, seed=3))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "generation.json").write_text("")  # ended by a full disk while it began
    with pytest.raises(OutputExistsError, match=r"generation\.json is no recipe.*delete it"):
        generator.claim(tmp_path / "c", Recipe(episodes=4, seed=3))


def test_halving_is_the_rounded_mean_of_two_by_two_pixels():
    frame = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    mean = frame.reshape(4, 2, 3, 2, 3).astype(float).mean(axis=(1, 3))
    np.testing.assert_array_equal(halve(frame), np.floor(mean + 0.5).astype(np.uint8))


def test_the_recipe_in_the_repository_spells_out_the_default_one():
    recipe = load_recipe(Path("configs/simulation/demo_data.yaml"), {"episodes": 2000, "seed": 0})
    assert recipe == Recipe()


@pytest.mark.parametrize("motion", get_args(Motion))
def test_every_motion_that_a_recipe_may_name_moves_the_arm_within_the_largest_step(motion):
    recipe = Recipe(motions={motion: 1.0}, noise_levels_m=(0.0,), episode_length=5)
    for index in range(2):
        episode = simulate_episode(recipe, index)
        assert episode.motion == motion
        steps_m = np.abs(np.diff(episode.states[:, :3], axis=0))
        assert 0.02 < steps_m.max() < recipe.max_step_m + 0.02


def test_a_recipe_decides_motion_length_and_largest_step():
    recipe = Recipe(motions={"push": 1.0}, episode_length=10, max_step_m=0.06)
    episode = simulate_episode(recipe, 1)
    assert episode.motion == "push"
    assert len(episode.frames) == len(episode.states) == 10
    assert np.abs(np.diff(episode.states[:, :3], axis=0)).max() < 0.08


@pytest.mark.parametrize(
    "text",
    [
        "episodes: 0",
        "motions: {dance: 1}",
        "motions: {}",
        "colour: red",
        "- 1",
        "motions: {push: 0}",
    ],
)
def test_a_recipe_that_says_something_else_is_refused(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InvalidRecipeError, match=r"recipe\.yaml"):
        load_recipe(tmp_path / "recipe.yaml", {})
