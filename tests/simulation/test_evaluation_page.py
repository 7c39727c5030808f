"""A policy of one's own that tells its energies and draws what it expects, evaluated and shown."""

import base64
import json
import re
import sys

import cv2
import numpy as np
import pytest

from simulation.__main__ import main
from simulation.evaluation import card
from simulation.evaluation.results import read

DREAMER = '''
import numpy as np


class Dreamer:
    """Stays where it is; after n actions it expects a picture of brightness 10 n."""

    def __init__(self):
        self.description, self.numbers = {"model": "dreamer", "planner": "none"}, {}

    def begin(self, goals):
        self.plans = 0

    def act(self, frame, state, goal_index):
        self.plans += 1
        self.numbers = {"energy_now": 1 / self.plans, "plan_ms": 7.0 * self.plans}
        return np.zeros(7)

    def imagine(self, frame, state, actions):
        return np.stack([np.full((32, 48, 3), 10 * n, np.uint8) for n in range(1, 1 + len(actions))])


def make():
    return Dreamer()
'''


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of one placed box that was never touched, by the dreamer and by doing nothing."""
    folder = tmp_path_factory.mktemp("dream")
    (folder / "dreaming.py").write_text(DREAMER)
    sys.path.insert(0, str(folder))
    command = ["evaluate", "--task", "pick_and_place", "--objects", "box", "--seeds", "1"]
    command += ["--policy", "dreaming:make", "--methods", "still", "--conditions", "seeds"]
    assert main([*command, "--workers", "1", "--output", str(folder / "run")]) == 0
    sys.path.remove(str(folder))
    return folder / "run"


def test_energies_and_plan_times_that_a_policy_tells_are_shown(evaluated):
    page = (evaluated / "index.html").read_text()
    assert "dreamer" in page
    assert "failure, plan 2: 0.500" in page
    assert "energy by plan, one colour per sub-goal" in page
    row = read(evaluated / "results.json").rows[0]
    assert row.energies["failure"][:3] == pytest.approx([1, 1 / 2, 1 / 3])
    assert row.energies["success"] == []
    assert row.plan_ms == pytest.approx((7 * 9.5, 7 * (1 + 0.9 * 17)))  # 4 + 10 + 4 plans


def test_what_a_policy_imagines_stands_below_what_came(evaluated):
    page = (evaluated / "index.html").read_text()
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sheet = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (3 * 128 + 2 * 4, 8 * 128 + 7 * 4, 3)
    middles = 64 + 132 * np.arange(8)
    camera, one_step, ahead = sheet[middles[:3]][:, middles]
    assert camera.std() > 0
    assert (one_step == 10).all()
    # The gripper moved after four actions, which nobody had told the model.
    assert ahead[:, 0].tolist() == [10, 20, 30, 40, 255, 255, 255, 255]


def test_a_card_is_written_about_a_policy_of_ones_own(evaluated, tmp_path, capsys):
    page = tmp_path / "README.md"
    marks = [*card.marks("closed loop in short"), *card.marks("failures")]
    page.write_text("\n".join(marks))
    command = ["card", str(evaluated / "results.json"), "--episodes", str(evaluated)]
    assert main([*command, str(page)]) == 0
    text = page.read_text()
    assert "| **dreaming:make** |" in text
    assert "| closed beside it | 1 |" in text
    assert (tmp_path / card.PICTURE).read_bytes().startswith(b"\x89PNG")
    assert main([*command, str(tmp_path / "none.md")]) == 1
    assert "none.md cannot be read" in capsys.readouterr().err


def test_a_folder_of_another_version_of_the_evaluation_is_refused(evaluated, tmp_path, capsys):
    note = json.loads((evaluated / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps({**note, "version": 0}))
    command = ["evaluate", "--methods", "still", "--task", "reach", "--output", str(tmp_path)]
    assert main(command) == 1
    assert "made by version 0 of the evaluation" in capsys.readouterr().err
