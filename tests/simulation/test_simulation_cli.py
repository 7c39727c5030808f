import sys

import cv2
import pytest

from simulation.__main__ import main
from trajectories.shards import open_shards


def test_show_draws_workcells_and_goals_and_overwrites_nothing(tmp_path, capsys):
    sheet = tmp_path / "cells.png"
    assert main(["show", "--output", str(sheet), "--count", "5"]) == 0
    assert cv2.imread(str(sheet)).shape == (512, 1024, 3)
    assert main(["show", "--output", str(sheet)]) == 1
    assert "exists" in capsys.readouterr().err
    goals = tmp_path / "goals.png"
    assert main(["show", "--output", str(goals), "--task", "grasp", "--count", "2"]) == 0
    assert cv2.imread(str(goals)).shape == (256, 3 * 128, 3)


def test_an_unknown_command_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["juggle"])
    assert "generate" in capsys.readouterr().err


def test_what_was_generated_can_be_looked_at(tmp_path, capsys):
    recipe, data = tmp_path / "recipe.yaml", tmp_path / "data"
    recipe.write_text("{motions: {explore: 1}, episode_length: 3, episodes: 9}")
    command = ["generate", "--recipe", str(recipe), "--output", str(data), "--workers", "1"]
    assert main([*command, "--episodes", "2", "--seed", "4"]) == 0
    assert "2 episodes written" in capsys.readouterr().out
    assert len(open_shards(data)) == 2
    sheet = tmp_path / "sheets" / "episodes.png"
    show = ["show", "--output", str(sheet), "--data", str(data)]
    assert main([*show, "--seed", "1"]) == 0  # the second, and there are no more
    assert cv2.imread(str(sheet)).shape == (128, 3 * 128, 3)
    sheet.unlink()
    assert main([*show, "--seed", "2"]) == 1
    assert "no episode 2; its 2 are counted from 0" in capsys.readouterr().err
    assert main(["show", "--output", str(sheet), "--data", str(tmp_path / "none")]) == 1
    assert "no shard in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "--output", "x.png", "--count", "0"], "--count: 0; a whole number of at least 1"),
        (["show", "--output", "x.png", "--seed", "-1"], "--seed: -1; a whole number of at least 0"),
        (["serve", "--seed", "1.5"], "--seed: 1.5; a whole number of at least 0"),
        (["serve", "--camera-rate", "0"], "--camera-rate: 0; a number above 0"),
        (["serve", "--camera-rate", "inf"], "--camera-rate: inf; a number above 0"),
        (["serve", "--camera-rate", "fast"], "--camera-rate: fast; a number above 0"),
        (["generate", "--output", "x", "--workers", "0"], "--workers: 0; a whole number"),
        (["evaluate", "--seeds", "0"], "--seeds: 0; a whole number of at least 1"),
        (["evaluate", "--first-seed", "-1"], "--first-seed: -1; a whole number of at least 0"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_refused_by_name(arguments, said, capsys):
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_a_machine_without_the_simulators_packages_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "simulation.generate", None)
    assert main(["generate", "--output", "x"]) == 1
    assert "pip install 'vjepa-planner[sim]'" in capsys.readouterr().err
