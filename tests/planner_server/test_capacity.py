"""The simulation of many robots: what it must say where the answer is known."""

import pytest

from planner_server import __main__ as command
from planner_server.scaling.capacity import Load, Replica, replicas_needed, simulate

QUICK = Replica(fixed_s=0.02, per_robot_s=0.005, max_batch=8)


def test_a_robot_alone_waits_for_its_own_plan_and_nothing_else() -> None:
    outcome = simulate(Load(1, 1.0, 1.0), QUICK, replicas=1, duration_s=200.0, seed=0)
    assert outcome.p50_s == pytest.approx(QUICK.batch_s(1), rel=0.05)
    assert outcome.planned == 1.0
    assert outcome.mean_batch == 1.0
    assert outcome.utilisation == pytest.approx(QUICK.batch_s(1), rel=0.1)


def test_more_load_makes_larger_batches_and_longer_waits() -> None:
    outcomes = [
        simulate(Load(robots, 1.0, 1.0), QUICK, replicas=1, duration_s=40.0, seed=0)
        for robots in (5, 40, 100)
    ]
    assert outcomes[0].mean_batch < outcomes[1].mean_batch < outcomes[2].mean_batch
    assert outcomes[0].p99_s < outcomes[1].p99_s < outcomes[2].p99_s
    assert all(outcome.planned > 0.99 for outcome in outcomes)


def test_beyond_its_capacity_a_replica_plans_what_it_can_for_everybody_in_turn() -> None:
    load = Load(300, 1.0, 1.0)
    outcome = simulate(load, QUICK, replicas=1, duration_s=60.0, seed=0)
    planned_per_s = outcome.planned * load.robots / load.period_s
    assert planned_per_s == pytest.approx(QUICK.robots_per_s(), rel=0.05)
    assert outcome.mean_batch == pytest.approx(QUICK.max_batch, rel=0.05)
    assert outcome.utilisation == pytest.approx(1.0, abs=0.02)
    assert not outcome.is_enough(load)


@pytest.mark.parametrize(
    "deadline_s", [0.5, 0.055, 0.05]
)  # the last ones need more than the throughput does
def test_the_number_found_is_enough_and_one_less_is_not(deadline_s: float) -> None:
    load = Load(500, 1.0, deadline_s)
    tried, needed = replicas_needed(load, QUICK, duration_s=20.0, seed=1)
    assert needed is not None
    by_count = {outcome.replicas: outcome for outcome in tried}
    assert by_count[needed].is_enough(load)
    assert not simulate(load, QUICK, needed - 1, duration_s=20.0, seed=1).is_enough(load)


def test_where_a_single_plan_is_too_slow_no_number_of_replicas_helps() -> None:
    slow = Replica(fixed_s=2.0, per_robot_s=0.1, max_batch=8)
    _, needed = replicas_needed(Load(3, 1.0, 1.0), slow, duration_s=20.0, seed=0)
    assert needed is None


def test_the_command_prints_replicas_and_percentiles(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--robots", "200", "--duration-s", "10"]
    cost = ["--fixed-ms", "20", "--per-robot-ms", "5"]
    assert command.main(["capacity", *size, *cost]) == 0
    out = capsys.readouterr().out
    assert "replicas needed: " in out
    assert "p99 ms" in out
