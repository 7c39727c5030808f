"""The job: planners that cannot share a page, files that do not overwrite each other."""

import argparse
from contextlib import nullcontext

import pytest

from trajectories.replay.errors import ReplayError
from trajectories.replay.job import add_arguments, carry_out, job_of
from trajectories.replay.results import read_json


@pytest.fixture
def job(raw_tree, tmp_path):
    """A job over the made-up tree; takes further command line words."""

    def make(*words):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        output = ["--output", str(tmp_path / "out"), "--candidates", "5"]
        return job_of(parser.parse_args([str(raw_tree), *output, *words]))

    return make


def test_planners_with_other_questions_are_refused_before_they_are_asked(job, known_planner):
    second = known_planner(horizon=1)
    with pytest.raises(ReplayError, match="one at a time"):
        carry_out(job(), [nullcontext(known_planner(horizon=2)), nullcontext(second)])
    assert second.asked == 0


def test_planners_of_one_label_keep_a_file_each(job, known_planner, tmp_path):
    planners = [nullcontext(known_planner(offset, label="a/b")) for offset in (0.0, 0.02)]
    assert carry_out(job("--landscape", "--landscapes-per-episode", "2"), planners) == 0
    first, second = (read_json(tmp_path / "out" / name) for name in ("a-b.json", "a-b-2.json"))
    assert first.summary["plan"]["distance_m"].mean == pytest.approx(0, abs=1e-9)
    assert second.summary["plan"]["distance_m"].mean == pytest.approx(0.02)
    assert len(first.landscapes) == 6
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize("words", [["--every", "0"], ["--draws", "x"], ["--clock", "sun"]])
def test_wrong_words_are_refused(job, words):
    with pytest.raises(SystemExit):
        job(*words)


def test_goals_may_lie_at_the_end_or_some_steps_ahead(job):
    assert job("--goal-steps", "end").goal_steps == "end"
    assert job("--goal-steps", "3").goal_steps == 3
    assert job().goal_steps is None
