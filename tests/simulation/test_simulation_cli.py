import cv2
import pytest

from simulation.__main__ import main


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
