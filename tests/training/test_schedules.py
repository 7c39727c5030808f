"""Schedules: the reference's values, and what they promise at their ends."""

import pytest
import torch

from training.schedules import LinearDecay, WarmupCosine, WarmupStableDecay, WeightDecay, linear

STEPS = 60


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        (
            "wsd",
            WarmupStableDecay(peak=5e-4, start=1e-4, final=0.0, warmup_steps=10, decay_steps=12),
        ),
        ("warmup_cosine", WarmupCosine(peak=5e-4, start=1e-4, final=1e-6, warmup_steps=10)),
        ("linear_decay", LinearDecay(peak=5e-4, final=1e-6)),
        ("cosine_wd", WeightDecay(start=0.04, final=0.4)),
    ],
)
def test_schedules_equal_the_reference(name, schedule, shared_dir):
    golden = torch.load(shared_dir / "golden" / "schedules.pt", weights_only=True)[name]
    ours = [schedule.at(update, STEPS) for update in range(1, STEPS + 1)]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), golden, rtol=0, atol=1e-12)


def test_without_a_decay_the_rate_stays_to_the_end():
    schedule = WarmupStableDecay(peak=5.25e-4, start=1e-4, warmup_steps=12_000)
    assert schedule.at(12_000, 240_000) == schedule.at(240_000, 240_000) == 5.25e-4
    assert schedule.at(1, 240_000) == pytest.approx(1e-4, rel=1e-3)


def test_a_schedule_that_spans_more_than_the_run_ends_where_it_is_then():
    published = LinearDecay(peak=5.25e-4, final=1e-6, over_steps=15_000)
    assert published.at(12_000, 12_000) == pytest.approx(1.058e-4, rel=1e-3)


def test_momentum_goes_from_start_to_end():
    assert linear(0, 100, 0.99, 1.0) == 0.99
    assert linear(100, 100, 0.99, 1.0) == linear(200, 100, 0.99, 1.0) == 1.0
