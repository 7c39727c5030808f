"""How long a robot waits for others: no search and no question of a person keeps the model for long."""

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from planner_server.batch_planner import BatchPlanner
from planner_server.goal_tokens import GoalTokens, digest_of
from planner_server.goals import GoalImage, SubGoal
from planner_server.landscape import EnergyQuestion, energies_of
from planner_server.mailbox import Mailbox
from planner_server.memories import Memories
from planner_server.options import EnergyOptions, PlanOptions
from planner_server.plan_request import Planned, PlanRequest
from planner_server.planning import Context, RolloutEngine, StopReason, planners
from planner_server.served_model import ServedModel, load_served_model
from planner_server.settings import Settings
from planner_server.worker import PlanningWorker, WorkerOptions
from tests.planner_server.plan_requests import plan_request

Make = Callable[..., PlanRequest]
ROLLOUT_S = 2e-3
SEQUENCES = 640


class SlowWorld:
    """A model whose every rollout takes a while, and none begins before the gate is open; it counts them."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.max_frames = real.max_frames
        self.rollouts = 0
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def rollout(self, context: Context, actions: Tensor) -> tuple[Tensor, Tensor]:
        self.rollouts += actions.shape[0] * actions.shape[1]
        self.entered.set()
        assert self.gate.wait(20)
        time.sleep(ROLLOUT_S * actions.shape[0] * actions.shape[1])
        tokens, poses = self._real.rollout(context, actions)
        return tokens, poses


@pytest.fixture
def model(make_settings: Callable[..., Settings]) -> ServedModel:
    fast = load_served_model(make_settings())
    engine = RolloutEngine(SlowWorld(fast.engine.dynamics))
    names = ("icem", "cem")
    return dataclasses.replace(
        fast,
        engine=engine,
        planners={name: planners.make(name, engine, planners.settings(name)) for name in names},
    )


@pytest.fixture
def world(model: ServedModel) -> Any:
    return model.engine.dynamics


@pytest.fixture
def worker(model: ServedModel, world: Any) -> Iterator[PlanningWorker]:
    worker = PlanningWorker(lambda: model, WorkerOptions(torch_threads=1, max_search_s=0.3))
    worker.start().result(60)
    worker.ask(lambda *_: None, "until it is warm").result(60)
    world.rollouts = 0
    world.entered.clear()
    yield worker
    worker.stop()


@pytest.fixture
def goal(frame: Any, goal_png: bytes) -> SubGoal:
    digest = digest_of(np.ascontiguousarray(frame[::-1]))
    return SubGoal((GoalImage(digest, 48, 48, "image/png", goal_png),))


@pytest.fixture
def request_for(frame: Any, goal: SubGoal, pose: list[float]) -> Make:
    return lambda planner="icem", **changes: plan_request(frame, pose, goal, planner, **changes)


def test_a_robot_has_its_turn_between_the_portions_of_somebody_elses_energies(
    worker: PlanningWorker, world: Any, request_for: Make, frame: Any, goal: SubGoal, pose: Any
) -> None:
    question = EnergyQuestion(
        lambda: frame, np.array(pose), goal, np.zeros((SEQUENCES, 1, 7)), EnergyOptions()
    )
    asking = threading.Thread(target=lambda: asyncio.run(energies_of(worker, question)))
    world.gate.clear()
    asking.start()
    assert world.entered.wait(20)
    patient = {"patience_ms": 60_000.0, "is_limited": True}
    robot = worker.observe("robot", request_for(options=PlanOptions(max_evaluations=4), **patient))
    before: list[int] = []
    robot.add_done_callback(lambda _: before.append(world.rollouts))
    world.gate.set()
    assert robot.result(20).plan.evaluations <= 6
    asking.join(20)
    assert before[0] <= 1 + 6  # the sequence that was under way, and the robot's own
    assert world.rollouts == 1 + robot.result().plan.evaluations + SEQUENCES


def test_portions_are_short_and_the_numbers_those_of_every_sequence_alone(
    worker: PlanningWorker,
    model: ServedModel,
    monkeypatch: pytest.MonkeyPatch,
    frame: Any,
    goal: SubGoal,
    pose: Any,
) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.05, 0.05, (250, 3, 7))
    portions: list[int] = []

    def found(asked: Any) -> list[float]:
        question = EnergyQuestion(lambda: frame, np.array(pose), goal, asked, EnergyOptions())
        return asyncio.run(energies_of(worker, question)).energies

    evaluate = model.engine.evaluate

    def noted(context: Any, candidates: Tensor, *rest: Any, **named: Any) -> Any:
        portions.append(candidates.shape[1])
        return evaluate(context, candidates, *rest, **named)

    monkeypatch.setattr(model.engine, "evaluate", noted)
    together = found(actions)
    assert sum(portions) == 1 + len(actions)  # and holding still
    assert 10 <= max(portions) <= 0.2 / ROLLOUT_S
    some = [0, 1, 99, 100, 101, 249]
    alone = [found(actions[[index]])[0] for index in some]
    np.testing.assert_allclose([together[index] for index in some], alone, rtol=1e-5)


def test_a_search_without_a_deadline_ends_all_the_same(
    worker: PlanningWorker, world: Any, request_for: Make
) -> None:
    endless = worker.observe("endless", request_for("cem"))
    assert world.entered.wait(20)
    robot = worker.observe("robot", request_for(options=PlanOptions(max_evaluations=4)))
    cut = endless.result(20)
    assert cut.plan.stop_reason is StopReason.DEADLINE
    assert cut.plan.evaluations < 1.5 * 0.3 / ROLLOUT_S
    assert any("the server's max_search_s ended the search" in each for each in cut.warnings)
    assert robot.result(20).plan.evaluations > 0


@pytest.mark.parametrize(
    ("changes", "least_ms", "most_ms"),
    [
        ({}, 30_000, 30_000),
        ({"is_limited": True, "patience_ms": 90_000.0}, 30_000, 30_000),
        ({"is_limited": True, "patience_ms": 20_000.0}, 10_000, 20_000),
        ({"is_limited": True, "received_s": 0.0}, 30_000, 30_000),  # late already
    ],
    ids=["no deadline", "a later deadline", "an earlier deadline", "late"],
)
def test_whatever_a_session_says_its_search_is_no_longer_than_the_longest(
    model: ServedModel, request_for: Make, changes: Any, least_ms: float, most_ms: float
) -> None:
    budgets: list[Any] = []
    real = model.planners["icem"]

    class Noted:
        def plan(self, problems: Any, budget: Any = None) -> Any:
            budgets.append(budget)
            return real.plan(problems, budget)

    served = dataclasses.replace(model, planners={"icem": Noted()})
    planner = BatchPlanner(served, GoalTokens(served, 8), Memories(8), max_search_s=30.0)
    few = PlanOptions(max_evaluations=4)
    (answer,) = planner.plan([request_for(options=few, **changes)])
    assert isinstance(answer, Planned)
    assert least_ms <= budgets[0].deadline_ms <= most_ms


def test_more_steps_than_the_model_looks_ahead_are_refused(
    server: Any, encode_png: Any, frame: Any, goal_png: bytes, pose: list[float]
) -> None:
    with server.http() as http:
        longest = http.get("/v1/model").json()["geometry"]["max_frames"]
        files = {"frame": encode_png(frame), "goal": goal_png}

        def ask(steps: int) -> Any:
            form = {"state": json.dumps(pose), "actions": json.dumps([[[0.0] * 7] * steps])}
            return http.post("/v1/energy", files=files, data=form)

        assert ask(longest).status_code == 200
        refused = ask(longest + 1)
    assert refused.status_code == 422
    assert refused.json()["code"] == "invalid_request"
    assert f"at most {longest} ahead" in refused.json()["message"]


def test_letters_that_go_first_are_read_before_more_urgent_ones() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for letter, due_s in (("urgent", 1.0), ("plan later", 3.0), ("plan", 2.0)):
        mailbox.put(letter, letter, due_s)

    def take(goes_first: Callable[[str], bool] | None) -> list[str] | None:
        return mailbox.take(1, lambda *_: False, goes_first)

    assert take(lambda letter: letter.startswith("plan")) == ["plan"]
    assert take(None) == ["urgent"]
    assert take(lambda letter: letter.startswith("other")) == ["plan later"]
