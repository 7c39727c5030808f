"""The axes experiment: what was made is kept, and what is printed comes from all of it."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import axes
from benchmarks.axes import Episodes, Job, Outcome

JOBS = [
    Job(angle, seed, full=False, model_sha256="abc") for angle in (-45.0, 0.0) for seed in (1, 2)
]


def outcome(job: Job, before_m: float = 0.1) -> Outcome:
    return Outcome(
        angle_deg=job.angle_deg,
        seed=job.seed,
        fitted_deg=-job.angle_deg,
        fitted_std_deg=2.0,
        inferred_error_m=0.03,
        corrected_error_m=0.01,
        start_m=0.25,
        before_m=before_m * job.seed,
        after_m=0.02,
        full=job.full,
        model_sha256=job.model_sha256,
    )


def test_an_experiment_that_was_broken_off_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results" / "axes.jsonl"
    first = Episodes(path)
    assert first.missing(JOBS) == JOBS
    for job in JOBS[:3]:
        first.add(outcome(job))
    first.close(is_over=False)
    again = Episodes(path)
    assert again.missing(JOBS) == JOBS[3:]
    again.add(outcome(JOBS[3]))
    assert [each.job for each in again.of(JOBS)] == JOBS
    other = [dataclasses.replace(job, model_sha256="def") for job in JOBS]
    assert again.missing(other) == other
    again.close(is_over=True)
    assert not path.exists()


def test_the_median_is_over_the_episodes_of_one_angle() -> None:
    outcomes = [outcome(job) for job in JOBS]
    assert axes.angles_of(outcomes) == [-45.0, 0.0]
    assert axes.median_of(outcomes, 0.0, "before_m") == pytest.approx(0.15)


def test_a_run_prints_a_table_and_writes_numbers_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def do(jobs: list[Job], episodes: Episodes, workers: int) -> None:
        del workers
        for job in jobs:
            episodes.add(outcome(job))

    monkeypatch.setattr(axes, "_policy", lambda: SimpleNamespace(description={"sha256": "abc"}))
    monkeypatch.setattr(axes, "do", do)
    results, picture = tmp_path / "axes.json", tmp_path / "docs" / "axes.png"
    command = ["axes", "--seeds", "2", "--angles", "-45", "0", "--output", str(results)]
    monkeypatch.setattr("sys.argv", [*command, "--picture", str(picture)])
    assert axes.main() == 0
    assert len(json.loads(results.read_text())["outcomes"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["axes.json", "docs"]
    assert picture.stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "-45 deg" in printed
    assert "+45 +- 2 deg" in printed
