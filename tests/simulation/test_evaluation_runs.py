"""Runs that are interrupted, continued, refused; and what they leave behind."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from simulation.__main__ import main
from simulation.errors import InvalidTaskError, OutputExistsError, ResultsError
from simulation.evaluation import card
from simulation.evaluation.jobs import Job, Kind, jobs_of, kinds_of, lay_out, load, run_job, save
from simulation.evaluation.methods import METHODS, choose
from simulation.evaluation.replays import film, replay
from simulation.evaluation.results import read, write
from simulation.evaluation.runs import evaluate
from simulation.evaluation.summary import summarise, wilson
from simulation.evaluation.tables import grids
from simulation.tasks import TASK_NAMES

STILL, ORACLE = METHODS["still"], METHODS["oracle"]
GRASP = Kind("grasp", "near", "box")
REACH = Kind("reach", "near")


def jobs(method=STILL, seeds=3, kinds=(REACH,), first=500):
    return jobs_of(method, ["seeds"], kinds, range(first, first + seeds))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two methods, of which one succeeds and one fails, on one task of each sort."""
    folder = tmp_path_factory.mktemp("run") / "evaluation"
    both = [STILL, ORACLE]
    wanted = [each for method in both for each in jobs(method, 2, (REACH, GRASP))]
    return folder, evaluate(wanted, both, folder, workers=2)


def test_a_run_is_continued_where_it_stopped(finished):
    folder, first = finished
    wanted = [record.job for record in first.records]
    lost = folder / wanted[2].path
    before = json.loads(lost.read_text())
    lost.unlink()
    again = evaluate(wanted, [STILL, ORACLE], folder, workers=1)
    assert again.run_now == 1
    assert first.run_now == len(wanted)
    after = json.loads(lost.read_text())
    assert after["result"] == before["result"]  # whoever runs it, to the last bit
    assert evaluate(wanted, [STILL, ORACLE], folder, workers=1).run_now == 0


def test_more_seeds_and_methods_join_what_is_there(finished):
    folder, _ = finished
    more = jobs(METHODS["random"], 1)
    assert evaluate(more, [METHODS["random"]], folder, workers=1).run_now == 1


def test_a_folder_of_other_policies_is_refused(finished, tmp_path):
    folder, _ = finished
    other = dataclasses.replace(ORACLE, policy=f"{ORACLE.policy}?box_m=0.1")
    with pytest.raises(OutputExistsError, match=r"oracle.*another folder"):
        evaluate(jobs(other), [other], folder)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match="not empty"):
        evaluate(jobs(), [STILL], tmp_path)


def test_a_terminated_run_keeps_whole_records_and_leaves_no_process(tmp_path):
    folder = tmp_path / "evaluation"
    command = [sys.executable, "-m", "simulation", "evaluate", "--task", "pick_and_place"]
    command += ["--methods", "still", "--seeds", "500", "--workers", "1", "--output", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as run:
        deadline_s = time.monotonic() + 120
        while not list(folder.glob("episodes/*/*.json")):
            assert time.monotonic() < deadline_s, "no episode ended"
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 128 + signal.SIGTERM
    while group_lives(run.pid):  # the last of them notices the end of the first one
        assert time.monotonic() < deadline_s, "a process is left"
        time.sleep(0.1)
    paths = list(folder.glob("episodes/*/*.json"))
    assert 0 < len(paths) < 2000
    for path in paths:
        assert json.loads(path.read_text())["result"]["steps"]


def group_lives(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_records_are_read_as_they_were_written(finished, tmp_path):
    _, first = finished
    for record in first.records:
        save(record, tmp_path)
        assert load(record.job, tmp_path) == record
    (tmp_path / record.job.path).write_text('{"result": {}}')
    with pytest.raises(ResultsError, match="delete it"):
        load(record.job, tmp_path)


def test_every_seed_meets_every_object_in_unseen_workcells_and_one_under_a_shift():
    kinds = kinds_of(TASK_NAMES, ("cup", "box", "cube", "bottle"))
    made = jobs_of(STILL, ["seeds", "lights"], kinds, range(8))

    def count(condition, kind):
        return sum(job.condition == condition and job.kind == kind for job in made)

    for kind in kinds:
        assert count("seeds", kind) == 8
        assert count("lights", kind) == (8 if kind.task == "reach" else 2)
    assert len({job.path for job in made}) == len(made)


def test_far_reaches_start_farther_away_and_get_more_steps():
    near, far = (lay_out(Job("still", "seeds", Kind("reach", way), 5)) for way in ("near", "far"))
    distances = [
        np.linalg.norm(task.start[:3] - task.sub_goals[0].pose[:3]) for task in (near, far)
    ]
    assert distances[0] < 0.18 <= distances[1]
    assert near.sub_goals[0].step_budget < far.sub_goals[0].step_budget


def test_a_record_is_enough_to_see_the_episode_again(finished):
    _, first = finished
    record = next(
        each
        for each in first.records
        if (each.job.method, each.job.kind, each.job.seed) == ("oracle", GRASP, 500)
    )
    seen = replay(record, ORACLE)
    assert seen.is_faithful
    assert len(seen.looks) == len(seen.actions) + 1
    assert sum(action is not None for action in seen.actions) == len(record.result.steps)
    lifted_m = seen.looks[-1].state[2] - seen.looks[0].state[2]
    state = run_job(record.job, ORACLE, None).result.ends[-1]
    assert np.linalg.norm(state.offset_m) == pytest.approx(state.distance_m)
    assert lifted_m != 0
    assert film(seen)[8:12] == b"WEBP"


def test_summaries_count_what_the_episodes_say(finished):
    _, first = finished
    rows = {(row.method, row.kind): row for row in summarise(first.records)}
    reach = rows["oracle", REACH]
    assert (reach.success.count, reach.success.total) == (2, 2)
    assert all(share.count == 2 for share in reach.under_m.values())
    assert 0.08 <= reach.start_m <= 0.18
    lost = rows["still", GRASP]
    assert lost.success.count == 0
    assert sum(lost.failures.values()) == 2
    over_all = rows["still", Kind("grasp")]
    assert over_all.success == lost.success


def test_wilson_intervals_agree_with_the_textbook():
    share = wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0
    assert str(wilson(16, 20)) == "80 % [58-92]"


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_impossible_shares_are_refused(count, total):
    with pytest.raises(ValueError, match="no share"):
        wilson(count, total)


def test_results_are_read_as_they_were_written(finished, tmp_path):
    _, first = finished
    results = write(first, "python -m simulation evaluate", 3.0, tmp_path / "results.json")
    assert results.rows == summarise(first.records)
    assert results.main == "still"
    assert {failure for _, failure in results.failed} <= {"far from the goal", "closed beside it"}
    for grid in grids(results):
        lines = grid.markdown().splitlines()
        assert len({line.count("|") for line in lines}) == 1
    with pytest.raises(ResultsError, match="run it first"):
        read(tmp_path / "nothing.json")


def test_a_card_gets_tables_and_failures_between_its_marks_and_keeps_the_rest(finished, tmp_path):
    folder, first = finished
    path = tmp_path / "results.json"
    results = write(first, "python -m simulation evaluate --seeds 2", 3.0, path)
    page = tmp_path / "README.md"
    begin, end = card.marks("failures")
    marks = [*card.marks("closed loop"), "between", begin, "old", end]
    page.write_text("\n".join(["# Model", *marks, "the end\n"]))
    assert main(["card", str(path), str(page), "--episodes", str(folder)]) == 0
    text = page.read_text()
    assert text.startswith("# Model\n")
    assert text.endswith("the end\n")
    assert "old" not in text
    assert f"| reach near | {results.rows[0].success} |" in text
    assert "`python -m simulation evaluate --seeds 2`" in text
    assert f"]({card.PICTURE})" in text
    assert (tmp_path / card.PICTURE).read_bytes().startswith(b"\x89PNG")
    assert main(["card", str(path), str(page), "--episodes", str(folder)]) == 0
    assert page.read_text() == text  # once more changes nothing
    page.write_text("no marks")
    assert main(["card", str(path), str(page)]) == 1


def test_the_command_prints_tables_and_writes_results_and_a_page(tmp_path, capsys):
    folder = tmp_path / "evaluation"
    arguments = ["evaluate", "--task", "reach", "--seeds", "1", "--methods", "oracle", "still"]
    assert main([*arguments, "--output", str(folder), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "reach near" in printed
    results = read(folder / "results.json")
    assert results.main == "oracle"
    assert {row.condition for row in results.rows} == {"seeds"}
    page = (folder / "index.html").read_text()
    assert page.count("data:image/webp") == 2  # one success near, one far
    assert not re.search(r'(src|href)="(?!data:)', page)
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(card.marks("failures")))
    assert main(["card", str(folder / "results.json"), str(readme)]) == 0
    assert "No episode of the benchmark failed." in readme.read_text()
    assert not (tmp_path / card.PICTURE).exists()


def test_methods_are_chosen_by_name_and_by_group():
    assert [method.name for method in choose(["shipped"])] == ["shipped"]
    quick = {method.name for method in choose(["quick", "icem"])}
    assert quick == {"oracle", "random", "still", "icem"}
    assert {method.name for method in choose(["all"])} == set(METHODS)
    with pytest.raises(InvalidTaskError, match="no method magic"):
        choose(["magic"])


def test_methods_that_use_a_model_can_say_which():
    described = {name: method.described_by for name, method in METHODS.items()}
    assert {name for name, spec in described.items() if spec is None} == {
        "oracle",
        "random",
        "still",
        "pixels",
    }
    swap = METHODS["true_dynamics"].with_model("runs/x").described_by
    assert str(swap) == "planner_server.policy:served?model=runs/x"


def test_another_policy_or_model_takes_the_place_of_the_shipped_one():
    first, *others = choose(["shipped", "quick"], policy="mine.module:make")
    assert (first.name, str(first.spec)) == ("policy", "mine.module:make")
    assert "shipped" not in {method.name for method in others}
    changed = {method.name: method.policy for method in choose(["all"], model="runs/x")}
    assert changed["shipped"].endswith("?model=runs/x")
    assert changed["icem"].endswith("?planner=icem&model=runs/x")
    assert changed["true_dynamics"].endswith("token_energy&model=runs/x")
    assert changed["random_encoder"] == METHODS["random_encoder"].policy
    assert changed["oracle"] == ORACLE.policy
