"""The job: planners that cannot share a page, files that do not overwrite each other."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from trajectories.dataset import open_episode
from trajectories.errors import CorruptDataError
from trajectories.replay.errors import ReplayError
from trajectories.replay.job import (
    DONE,
    TOO_MANY_BAD,
    add_arguments,
    carry_out,
    job_of,
    make_folder,
)
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


def test_a_folder_that_is_there_is_not_written_to(job, known_planner, tmp_path):
    (tmp_path / "out").mkdir()
    planner = known_planner()
    with pytest.raises(ReplayError, match="exists already; choose another with --output"):
        carry_out(job(), [nullcontext(planner)])
    assert planner.asked == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplayError, match=r"cannot make .*file/out: Not a directory"):
        make_folder(tmp_path / "file" / "out")


def test_results_go_to_a_folder_of_their_own_unless_told_otherwise(raw_tree):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    folder = job_of(parser.parse_args([str(raw_tree)])).folder
    assert folder.parent == Path("runs")
    assert folder.name.endswith("-replay")


@pytest.mark.parametrize(("max_bad", "status"), [(1, DONE), (0, TOO_MANY_BAD)])
def test_an_episode_that_fails_on_the_way_is_skipped_and_counted(
    job, raw_folder, known_planner, tmp_path, capsys, max_bad, status
):
    refused = open_episode(raw_folder).states[0]

    class Refusing(known_planner):
        def plan(self, questions):
            for question, answer in super().plan(questions):
                if (question.state == refused).all():
                    raise CorruptDataError("a frame is damaged")
                yield question, answer

    assert carry_out(job("--max-bad", str(max_bad)), [nullcontext(Refusing())]) == status
    said = " ".join(capsys.readouterr().out.split())
    assert "run_0: not replayed: a frame is damaged" in said
    result = read_json(tmp_path / "out" / "known.json")
    assert [each.name[-5:] for each in result.episodes] == ["run_1", "run_2"]
    assert [each.episode[-5:] for each in result.skipped] == ["run_0"]


def test_a_replay_of_nothing_says_why(job, raw_tree, known_planner):
    for file in raw_tree.rglob("trajectory.h5"):
        file.unlink()
    with pytest.raises(ReplayError, match=r"none of 3 episodes .*\n.*run_0: missing signals"):
        carry_out(job(), [nullcontext(known_planner())])


def test_without_pyarrow_the_steps_are_in_the_json_alone(job, known_planner, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert carry_out(job(), [nullcontext(known_planner())]) == DONE
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"known.json", "index.html"}
