"""Batches change nothing but time and memory: the engine against a world that keeps account of its calls."""

import logging
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from planner_server.planning.batch_memory import CPU_BATCH
from planner_server.planning.dynamics import Context
from planner_server.planning.rollouts import (
    Evaluated,
    RolloutEngine,
    RolloutSettings,
)
from planner_server.planning.throughput import Throughput, Work

STEP = Work(horizon=1)


class CountingWorld:
    """Tokens are the sums of the actions so far; remembers the size of every call."""

    max_frames = 8

    def __init__(self, memory: int | None = None, rollout_s: float = 0.0) -> None:
        self.calls: list[tuple[int, int]] = []
        self._memory = memory
        self._rollout_s = rollout_s

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        problems, candidates = actions.shape[:2]
        assert problems == len(context)
        self.calls.append((problems, candidates))
        if self._memory is not None and problems * candidates > self._memory:
            raise torch.OutOfMemoryError(f"{problems} x {candidates}")
        time.sleep(self._rollout_s * problems * candidates)
        poses = context.states[:, -1, None, None] + actions.cumsum(dim=2)
        return poses[..., None, :], poses


def context(problems: int, frames: int = 1) -> Context:
    return Context(
        torch.zeros(problems, frames, 7),
        torch.arange(problems).float()[:, None, None].expand(-1, frames, 7),
        torch.zeros(problems, frames - 1, 7),
    )


def last_sum(tokens: Tensor, poses: Tensor, problems: slice) -> Tensor:
    assert tokens.shape[:3] == poses.shape[:3]
    offsets = 100.0 * torch.arange(100)[problems]
    return tokens[:, :, -1].sum(dim=(-2, -1)) + offsets[:, None]


def evaluate(engine: RolloutEngine, actions: Tensor, **options: Any) -> Evaluated:
    return engine.evaluate(context(len(actions)), actions, last_sum, **options)


@pytest.mark.parametrize("batch_size", [1, 5, 32, 1000])
def test_the_size_of_the_batches_does_not_show(batch_size: int) -> None:
    actions = torch.rand(3, 23, 2, 7)
    engine = RolloutEngine(CountingWorld(), RolloutSettings(batch_size=batch_size))
    result = evaluate(engine, actions, keep=lambda tokens: tokens)
    states = torch.arange(3).float()[:, None, None, None]
    expected = states + actions.cumsum(dim=2)
    torch.testing.assert_close(result.poses, expected)
    assert result.tokens is not None
    torch.testing.assert_close(result.tokens[..., 0, :], expected)
    offsets = 100.0 * torch.arange(3)[:, None]
    torch.testing.assert_close(result.energies, expected[:, :, -1].sum(dim=-1) + offsets)


def test_on_a_cpu_a_batch_holds_candidates_of_one_problem() -> None:
    world = CountingWorld()
    evaluate(RolloutEngine(world), torch.rand(2, CPU_BATCH + 4, 1, 7))
    assert world.calls == [(1, CPU_BATCH)] * 2 + [(1, 4)] * 2


def test_of_the_tokens_only_what_is_asked_for_is_kept() -> None:
    engine, actions = (
        RolloutEngine(CountingWorld(), RolloutSettings(batch_size=2)),
        torch.rand(2, 5, 3, 7),
    )
    assert evaluate(engine, actions).tokens is None
    kept = evaluate(engine, actions, keep=lambda tokens: tokens[:, :, -1:, :, [4, 0]]).tokens
    assert kept is not None
    states = torch.arange(2).float()[:, None, None]
    torch.testing.assert_close(kept[:, :, 0, 0], states + actions[..., [4, 0]].sum(dim=2))


def test_results_are_scored_with_the_exact_model_where_asked_for() -> None:
    rough, exact = CountingWorld(), CountingWorld()
    engine = RolloutEngine(rough, exact=exact)
    evaluate(engine, torch.rand(1, 3, 1, 7))
    evaluate(engine, torch.rand(1, 2, 1, 7), exact=True)
    assert (rough.calls, exact.calls) == ([(1, 3)], [(1, 2)])


def test_out_of_memory_halves_the_batches_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actions, world = torch.rand(1, 40, 1, 7), CountingWorld(memory=9)
    engine = RolloutEngine(world, RolloutSettings(batch_size=32))
    expected = evaluate(RolloutEngine(CountingWorld()), actions)
    with caplog.at_level(logging.WARNING, "planner_server.planning.batch_memory"):
        result = evaluate(engine, actions)
    torch.testing.assert_close(result.energies, expected.energies)
    assert "32 rollouts over 1 steps from 1 frames do not fit" in caplog.text
    assert "at most 8 for now" in caplog.text
    world.calls.clear()
    evaluate(engine, actions)
    assert world.calls == [(1, 8)] * 5


def test_a_memory_too_small_for_one_rollout_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(RolloutEngine(CountingWorld(memory=0)), torch.rand(1, 4, 1, 7))


def test_a_deadline_leaves_the_leading_candidates_of_every_problem() -> None:
    engine = RolloutEngine(CountingWorld(rollout_s=0.002), RolloutSettings(batch_size=4))
    actions = torch.rand(2, 400, 1, 7)
    begun_s = time.monotonic()
    result = engine.evaluate(context(2), actions, last_sum, deadline_s=begun_s + 0.2)
    done = result.energies.shape[1]
    assert 0 < done < 400
    expected = evaluate(RolloutEngine(CountingWorld()), actions[:, :done])
    torch.testing.assert_close(result.energies, expected.energies)
    torch.testing.assert_close(result.poses, expected.poses)


def test_after_the_deadline_nothing_is_imagined() -> None:
    world = CountingWorld()
    result = RolloutEngine(world).evaluate(
        context(2), torch.rand(2, 5, 3, 7), last_sum, deadline_s=time.monotonic() - 1
    )
    assert (result.energies.shape, result.poses.shape) == ((2, 0), (2, 0, 3, 7))
    assert not world.calls


def test_batches_are_cut_to_the_time_that_is_left() -> None:
    world = CountingWorld(rollout_s=0.005)
    engine = RolloutEngine(world, RolloutSettings(batch_size=64))
    evaluate(engine, torch.rand(1, 8, 1, 7))  # now it knows how fast the world is
    world.calls.clear()
    engine.evaluate(
        context(1), torch.rand(1, 64, 1, 7), last_sum, deadline_s=time.monotonic() + 0.1
    )
    assert world.calls[0][1] <= 20


def learned(batches: list[tuple[int, float]], work: Work = STEP) -> Throughput:
    throughput = Throughput()
    for rollouts, seconds in batches:
        throughput.learn(work, rollouts, seconds)
    return throughput


def test_a_batch_costs_a_fixed_time_and_a_time_per_rollout() -> None:
    throughput = learned([(n, 0.002 + 0.001 * n) for n in (32, 8, 2, 16, 32, 2)])
    assert throughput.seconds(STEP, 64) == pytest.approx(0.066, rel=0.05)
    assert throughput.seconds(STEP, 2) == pytest.approx(0.004, rel=0.3)
    assert throughput.affordable(STEP, 0.1) == pytest.approx((0.09 - 0.002) / 0.001, rel=0.05)
    assert throughput.affordable(STEP, 0.0005) == 0


class GpuEvent:
    """Stands for a CUDA event, which only a GPU has."""

    def __init__(self) -> None:
        self.has_come = False

    def query(self) -> bool:
        return self.has_come

    def elapsed_time(self, other: "GpuEvent") -> float:
        return 42.0


def test_what_is_queued_on_a_gpu_counts_until_it_has_come_by() -> None:
    throughput = learned([(32, 0.034), (16, 0.018), (32, 0.034)])
    assert throughput.queued_s() == 0.0
    first, second = GpuEvent(), GpuEvent()
    for event in (first, second):
        throughput._pending.append((GpuEvent(), event, STEP, 32))
    assert throughput.queued_s() == pytest.approx(0.068, rel=0.05)
    first.has_come = True
    assert 0.0 < throughput.queued_s() < 0.06
    second.has_come = True
    assert throughput.queued_s() == 0.0
    assert throughput.affordable(STEP, -1.0) == 0


def test_times_are_taken_on_the_gpu_that_the_model_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[str] = []

    class RecordedEvent(GpuEvent):
        def record(self, stream: str = "of the current GPU") -> None:
            streams.append(stream)

    monkeypatch.setattr("torch.cuda.Event", lambda **_: RecordedEvent())
    monkeypatch.setattr("torch.cuda.current_stream", "of {}".format)
    throughput = Throughput()
    throughput.end(throughput.begin(STEP, torch.device("cuda:3")), 32)
    assert streams == ["of cuda:3"] * 2


def test_small_closing_batches_do_not_make_the_next_search_smaller() -> None:
    whole = [(32, 0.034), (4, 0.006)] * 5
    before, after = learned(whole), learned([*whole, (2, 0.004), (2, 0.004), (2, 0.004)])
    expected, found = before.affordable(STEP, 0.2), after.affordable(STEP, 0.2)
    assert expected is not None
    assert found is not None
    assert found > 0.9 * expected


def test_batches_of_one_size_are_taken_for_proportional() -> None:
    throughput = learned([(16, 0.016)] * 4)
    assert throughput.seconds(STEP, 8) == pytest.approx(0.008)
    assert throughput.seconds(Work(2), 8) == pytest.approx(0.016), (
        "two steps cost about twice as much"
    )


def test_other_contexts_gradients_and_the_exact_model_have_times_of_their_own() -> None:
    throughput = learned([(16, 0.016)] * 4)
    older, steep, exact = Work(1, frames=8), Work(1, has_gradient=True), Work(1, is_exact=True)
    for factor, work in ((2, older), (3, steep), (4, exact)):
        assert throughput.seconds(work, 8) == pytest.approx(0.008), "until it is known"
        for _ in range(4):
            throughput.learn(work, 16, 0.016 * factor)
        assert throughput.seconds(work, 8) == pytest.approx(0.008 * factor)
    assert throughput.seconds(STEP, 8) == pytest.approx(0.008)
    assert throughput.seconds(Work(2, frames=6), 8) == pytest.approx(2 * 2 * 0.008), "like 8 frames"


def test_what_only_happens_once_is_soon_forgotten() -> None:
    warming_up = learned([(8, 30.0), (8, 0.008)])
    assert warming_up.seconds(STEP, 8) == pytest.approx(0.008)
    hiccup = learned([(8, 0.008)] * 10 + [(8, 30.0)])
    expected_s = hiccup.seconds(STEP, 8)
    assert expected_s is not None
    assert 0.008 < expected_s < 4 * 0.008
    assert learned([]).affordable(STEP, 1.0) is None


def test_the_engine_learns_how_fast_its_model_is() -> None:
    engine = RolloutEngine(CountingWorld(rollout_s=0.002))
    for size in (4, 8, 16, 8):
        evaluate(engine, torch.rand(1, size, 1, 7))
    affordable = engine.throughput.affordable(STEP, 1.0)
    assert affordable is not None
    assert 10 < affordable <= 900


def test_gradients_reach_the_actions() -> None:
    actions = torch.rand(2, 40, 2, 7, requires_grad=True)
    energies = evaluate(RolloutEngine(CountingWorld()), actions).energies
    (gradient,) = torch.autograd.grad(energies.sum(), actions)
    assert torch.equal(gradient, torch.ones_like(actions))
    assert evaluate(RolloutEngine(CountingWorld()), actions.detach()).energies.is_inference()


def test_the_same_problems_of_a_context_are_the_same_context() -> None:
    several = context(4, frames=2)
    assert several.select(slice(0, 4)) is several
    part = several.select(slice(1, 3))
    assert part is several.select(slice(1, 3))
    assert (len(part), part.frames) == (2, 2)
    assert torch.equal(part.states, several.states[1:3])
