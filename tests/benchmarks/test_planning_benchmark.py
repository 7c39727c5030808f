"""What the planning benchmark claims rests on: an equal baseline, sound statistics, a page that keeps its text."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.planning import __main__ as main
from benchmarks.planning import cases, comparison, curves, published, report, shipped, speed
from benchmarks.planning.published_search import PublishedSearch, next_poses
from models.config import tiny, vjepa2_ac_vit_giant
from models.model_folder import save_world_model
from models.poses import compose
from models.world_model import WorldModel, normalise
from planner_server.planning import (
    ActionBounds,
    CemPlanner,
    CemSettings,
    Goal,
    PlanningProblem,
    RolloutEngine,
    WorldModelDynamics,
    planners,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(tiny()).eval().requires_grad_(requires_grad=False)


def make_problem(model: WorldModel, horizon: int) -> PlanningProblem:
    tokens = normalise(torch.randn(2, model.tokens_per_frame, model.embed_dim))
    state = torch.tensor([[0.4, 0.1, 0.3, -3.0, 0.1, 0.7, 0.2]])
    bounds = ActionBounds.symmetric(model.config.max_action)
    return PlanningProblem(tokens[0], state, Goal.of(tokens[1]), bounds, horizon=horizon, seed=5)


@pytest.mark.parametrize("horizon", [1, 2])
def test_our_cem_is_the_published_search_only_faster(model: WorldModel, horizon: int) -> None:
    problem = make_problem(model, horizon)
    search = PublishedSearch(model.config.max_step_m, candidates=32, elites=6, iterations=4)
    generator = torch.Generator().manual_seed(problem.seed)
    expected = search.plan(
        model.predictor,
        (problem.context_tokens, problem.context_states[-1]),
        problem.goal.tokens[0],
        horizon,
        lambda size, axes: torch.randn(size, axes, generator=generator),
    )
    settings = CemSettings(candidates=32, elites=6, iterations=4)
    planner = CemPlanner(RolloutEngine(WorldModelDynamics(model)), settings)
    plan = planner.plan([problem])[0]
    np.testing.assert_allclose(plan.actions, expected.numpy(), atol=1e-4)


def test_poses_composed_one_by_one_are_those_composed_at_once() -> None:
    poses, actions = torch.rand(5, 7), torch.rand(5, 7) - 0.5
    torch.testing.assert_close(next_poses(poses, actions), compose(poses, actions))


def test_the_gap_is_relative_to_what_can_be_gained() -> None:
    gaps = comparison.relative_gap(
        np.array([0.3, 0.2, 0.5]), np.array([0.2, 0.2, 0.5]), np.array([0.4, 0.4, 0.5])
    )
    np.testing.assert_allclose(gaps, [0.5, 0.0, 0.0])


def test_the_bootstrap_interval_holds_the_median_and_narrows_with_the_sample() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for size in (10, 1000):
        values = rng.normal(size=size)
        low, high = comparison.bootstrap(values, np.median)
        assert low <= np.median(values) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_every_planner_is_compared_and_scaled() -> None:
    compared = {contender.planner for contender in comparison.contenders()}
    assert compared == set(planners) == set(curves.SCALED)
    for name, scale in curves.SCALED.items():
        for budget in (32, 48, 960):
            planners.settings(name, **scale(budget))  # refuses what it does not know


def test_the_best_known_answer_has_no_gap(model: WorldModel) -> None:
    engine = RolloutEngine(WorldModelDynamics(model))
    problems = [make_problem(model, 1), make_problem(model, 1)]
    small = comparison.Contender(comparison.PUBLISHED, "cem", {"candidates": 12, "iterations": 2})
    long = comparison.Contender("long", "icem", {})
    published, best = (comparison.answer(engine, model, who, problems) for who in (small, long))
    rows = comparison.standings([published, best], np.minimum(published.energies, best.energies))
    assert min(row.gap for row in rows) == 0
    assert all(row.gap_low <= row.gap <= row.gap_high for row in rows)
    assert rows[0].distance_m == 0
    assert rows[0].is_as_good


def test_the_generated_section_leaves_the_rest_of_the_page_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    lines = report.markdown("Title", ["a", "b"], [["1", "2"]])
    for _ in range(2):
        report.rewrite_section(page, lines)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| 1 | 2 |") == 1
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="has no section"):
        report.rewrite_section(page, lines)


def test_the_cache_makes_cost_grow_with_the_horizon_and_not_with_its_square() -> None:
    config = vjepa2_ac_vit_giant().predictor
    one, six = (speed.arithmetic(config, horizon) for horizon in (1, 6))
    assert one["from scratch, masked"] == pytest.approx(164, rel=0.02)
    assert one["cached"] < one["from scratch, masked"]
    assert six["cached"] < 7 * one["cached"]
    assert six["from scratch, masked"] > 21 * one["from scratch, masked"]


def test_a_batch_is_timed_until_the_device_is_through_with_it(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: time.sleep(0.02))
    context = speed.some_context(model, 2)
    seconds = speed.over_batch_size(WorldModelDynamics(model), context, (1, 4))
    assert list(seconds) == [1, 4]
    assert seconds[1] >= 0.02
    assert seconds[4] >= 0.02 / 4


def test_problems_are_the_same_every_time() -> None:
    first, second = cases.simulated(2), cases.simulated(2)
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.frame, other.frame)
        assert np.array_equal(one.goal, other.goal)
        assert not np.array_equal(one.frame, one.goal)


def test_a_recording_gives_one_case_per_pair_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "drive.npz"
    np.savez(path, observations=np.zeros((1, 4, 8, 8, 3), np.uint8), states=np.zeros((1, 4, 7)))
    assert [case.name for case in cases.recorded(path)] == ["drive 0", "drive 1", "drive 2"]


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    points = [
        curves.Point(name, size, 0.02, 0.01, 0.04, 0.1, 50.0)
        for name in ("a", "b")
        for size in (48, 96)
    ]
    curves.plot(points, tmp_path / "plot.png", "title")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(600)
def test_the_benchmark_runs_to_its_end_and_rewrites_the_page(
    model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text(f"before\n{report.BEGIN}\n{report.END}\nafter\n")
    effort = shipped.Effort({1: 2, 2: 1}, 20, {1: 10, 2: 2}, 1, 1, (48,))
    for module, name, value in (
        (shipped, "QUICK", effort),
        (shipped, "LONG", comparison.Contender("long", "icem", {}, horizons=(1,))),
        (shipped, "_HORIZONS", (1, 2)),
        (shipped, "_ROBOTS", 2),
        (published, "HORIZONS", (1, 2)),
        (published, "_CPU_HORIZONS", (1, 2)),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(main, "PAGE", page)
    monkeypatch.setattr(main, "PLOT", plot)
    monkeypatch.setattr(published, "vjepa2_ac_vit_giant", tiny)
    save_world_model(model, tmp_path / "model")
    arguments = ["--quick", "--docs", "--model", str(tmp_path / "model"), "--output", str(tmp_path)]
    assert main.main(arguments) == 0

    document = json.loads((tmp_path / "planning-shipped.json").read_text())
    assert document["versions"]["torch"] == torch.__version__
    assert document["sections_s"]["horizon 2, cem (published)"] > 0
    for comparison_found in document["result"]["comparisons"]:
        horizon, rows = comparison_found["horizon"], comparison_found["rows"]
        expected = {who.name for who in comparison.contenders() if horizon in who.horizons}
        assert {row["name"] for row in rows} == expected
    assert (tmp_path / "planning-published.json").is_file()
    assert plot.is_file()
    text = page.read_text()
    assert "at an energy no higher: " in text
    assert text.endswith("after\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_benchmark_runs_on_a_clean_checkout(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "planner_server.planning.bench",
        "--quick",
        "--output",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=800)
    shipped = json.loads((tmp_path / "planning-shipped.json").read_text())
    assert shipped["versions"]["torch"] == torch.__version__
    rows = shipped["result"]["comparisons"][0]["rows"]
    assert {row["name"] for row in rows} == {who.name for who in comparison.contenders()}
    assert (tmp_path / "planning-published.json").is_file()
