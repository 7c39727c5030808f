"""What the page's benchmark makes of what it has seen."""

from types import SimpleNamespace

import pytest

pytest.importorskip("playwright", reason="playwright is not installed; install .[dev]")

from benchmarks.page import _drive


def test_lags_count_from_the_look_and_what_was_not_drawn_is_counted() -> None:
    looked = {("a", seq): 10.0 + 0.1 * seq for seq in range(10)}
    planned = {key: at + 0.02 for key, at in looked.items() if key != ("a", 3)}
    robots = SimpleNamespace(sessions=["a"], looked_s=looked, planned_s=planned)
    drawn = [["a", seq, 1e3 * (looked["a", seq] + 0.05)] for seq in range(10) if seq not in (3, 5)]
    drive = _drive(
        robots,  # type: ignore[arg-type]
        {"drawn": drawn, "ticks": [0.0, 16.0, 32.0, 132.0, 148.0]},
        begun_s=9.0,
        ended_s=20.0,
    )
    assert (drive.plans, drive.drawn) == (9, 8)
    assert drive.not_drawn == pytest.approx(1 / 9)
    assert drive.lag_p50_ms == pytest.approx(50.0, abs=0.1)
    assert drive.plan_p50_ms == pytest.approx(20.0, abs=0.1)
    assert drive.long_frames == 0.25


def test_what_was_on_its_way_at_either_end_is_not_counted() -> None:
    looked = {("a", 0): 1.0, ("a", 1): 2.0, ("a", 2): 3.0}
    planned = {key: at + 0.02 for key, at in looked.items()}
    robots = SimpleNamespace(sessions=["a"], looked_s=looked, planned_s=planned)
    watched = {"drawn": [["a", 1, 2050.0]], "ticks": [0.0, 16.0]}
    drive = _drive(robots, watched, begun_s=1.5, ended_s=2.5)  # type: ignore[arg-type]
    assert (drive.plans, drive.drawn) == (1, 1)
