"""Sessions come and go; settings are read from file and environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from planner_server.errors import PlannerError, StartupError
from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.options import PlanOptions
from planner_server.planning import CemSettings
from planner_server.session import Session
from planner_server.sessions import SessionStore
from planner_server.settings import Settings, load_settings
from planner_server.terms import Terms

REPOSITORY = Path(__file__).resolve().parents[2]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def create(store: SessionStore) -> Session:
    return store.create(PlanOptions(), Terms("icem", (0.15,) * 7, 1, 1000.0, False))


def test_idle_sessions_are_forgotten_and_used_ones_kept() -> None:
    clock = Clock()
    store = SessionStore(max_sessions=8, idle_s=10.0, clock=clock)
    idle, used = create(store), create(store)
    clock.now_s = 8.0
    store.get(used.id)
    clock.now_s = 12.0
    assert store.all() == [used]
    with pytest.raises(PlannerError, match="idle for 10 s"):
        store.get(idle.id)


def test_whoever_listens_is_told_of_every_end_and_only_an_idle_session_may_go_on_elsewhere() -> (
    None
):
    clock, told = Clock(), list[Session]()
    store = SessionStore(max_sessions=8, idle_s=10.0, clock=clock)
    store.on_ended.append(told.append)
    idle, deleted, ended_elsewhere = create(store), create(store), create(store)
    store.delete(deleted.id)
    store.drop(ended_elsewhere)
    store.drop(ended_elsewhere)
    clock.now_s = 12.0
    store.forget_idle()
    assert told == [deleted, ended_elsewhere, idle]
    has_ended = [store.has_ended(each.id) for each in (idle, deleted, ended_elsewhere)]
    assert has_ended == [False, True, True]


def test_a_session_that_is_taken_up_has_been_idle_for_as_long_as_it_was() -> None:
    clock = Clock()
    store = SessionStore(max_sessions=8, idle_s=10.0, clock=clock)
    old, fresh = create(SessionStore(8, 10.0)), create(SessionStore(8, 10.0))
    store.adopt(old, idle_s=7.0)
    store.adopt(fresh, idle_s=-5.0)  # saved by a machine whose clock is ahead
    clock.now_s = 4.0
    assert store.all() == [fresh]


def test_a_plan_for_goals_that_were_replaced_meanwhile_counts_for_nothing() -> None:
    session = create(SessionStore(2, 10.0))
    reached = GoalRules(energy_threshold=0.5)
    before, after = (SubGoal((GoalImage(name, 8, 8, "", b""),), reached) for name in "ab")
    session.set_goals((before,))
    assert session.count_plan(None, 0, before, energy_now=0.4) == (True, True)
    session.set_goals((after,))
    assert session.count_plan(None, 0, before, energy_now=0.4) == (False, False)
    assert session.goal_steps == 0
    assert session.count_plan(None, 0, after, energy_now=0.4) == (True, True)


def test_sessions_are_bounded_and_idle_ones_make_room() -> None:
    clock = Clock()
    store = SessionStore(max_sessions=2, idle_s=10.0, clock=clock)
    first, _ = create(store), create(store)
    with pytest.raises(PlannerError, match="at most 2"):
        create(store)
    store.delete(first.id)
    create(store)
    clock.now_s = 11.0
    create(store)
    assert len(store) == 1


def test_a_missing_goal_is_explained() -> None:
    session = create(SessionStore(2, 10.0))
    with pytest.raises(PlannerError, match="has no goal yet") as error:
        session.goal(0)
    assert error.value.code == "no_goal"


@pytest.mark.parametrize("options", [{"max_step_m": 0}, {"max_step_m": float("nan")}, {"seed": -1}])
def test_senseless_session_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        PlanOptions(**options)  # type: ignore[arg-type]


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in list(os.environ):
        if name.startswith("PLANNER_"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_nothing_configured_is_the_shipped_model_on_the_cpu(
    no_environment: pytest.MonkeyPatch,
) -> None:
    settings = load_settings()
    assert settings.model == REPOSITORY / "models" / "shipped"
    assert (settings.device, settings.token) == ("cpu", None)
    assert settings.zmq_endpoint == "tcp://127.0.0.1:5555"


def test_default_yaml_says_what_the_defaults_are(no_environment: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    no_environment.setenv("PLANNER_CONFIG", str(REPOSITORY / "configs/server/default.yaml"))
    written = load_settings()
    assert written == defaults


def test_the_published_weights_are_configured(no_environment: pytest.MonkeyPatch) -> None:
    no_environment.setenv("PLANNER_CONFIG", str(REPOSITORY / "configs/server/vitg_ac.yaml"))
    settings = load_settings()
    assert (settings.device, settings.control_period_s, settings.max_step_m) == (
        "cuda",
        1.06,
        0.075,
    )


def test_the_environment_overrules_the_file(
    no_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("horizon: 2\ndevice: cuda\nplanners: {cem: {candidates: 30}}\n")
    no_environment.setenv("PLANNER_CONFIG", str(path))
    no_environment.setenv("PLANNER_DEVICE", "cpu")
    no_environment.setenv("PLANNER_TOKEN", "sesame")
    settings = load_settings()
    assert (settings.horizon, settings.device) == (2, "cpu")
    assert settings.planner_options()["cem"] == CemSettings(candidates=30)
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("devise: cpu", "devise"),
        ("planners: {magic: {}}", "magic"),
        ("planners: {icem: {candidates: 3}}", "candidates"),
        ("planners: {icem: {uniform_candidates: many}}", "uniform_candidates"),
        ("default_planner: magic", "known: "),
        ("zmq_endpoint: localhost", "tcp://"),
        ("horizon: 0", "horizon"),
        ("- a list", "must hold a map"),
        ("a: [", "cannot be read"),
    ],
)
def test_mistakes_in_the_file_are_named(
    no_environment: pytest.MonkeyPatch, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(content)
    no_environment.setenv("PLANNER_CONFIG", str(path))
    with pytest.raises(StartupError, match=message):
        load_settings()


def test_a_missing_file_is_named(no_environment: pytest.MonkeyPatch) -> None:
    no_environment.setenv("PLANNER_CONFIG", "/no/such/file.yaml")
    with pytest.raises(StartupError, match=r"default\.yaml"):
        load_settings()


def test_a_plan_for_a_goal_that_was_replaced_meanwhile_counts_for_none() -> None:
    session = create(SessionStore(1, 60.0))
    old, new = (
        SubGoal((GoalImage(name, 48, 48, "image/png", b""),), GoalRules(max_steps=1))
        for name in ("old", "new")
    )
    session.set_goals((old, old))
    session.set_goals((new, new))
    assert session.count_plan(None, 0, old, 0.0) == (False, False)
    assert (session.goal_index, session.goal_steps) == (0, 0)
    session.set_goals((new,))
    assert session.count_plan(None, 1, new, 0.0) == (False, False)
    assert session.count_plan(None, 0, new, 0.0) == (True, True)


@pytest.mark.parametrize("alone", ["curve_secret_key", "curve_clients"])
def test_half_of_the_encryption_is_no_setting(alone: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="go together"):
        Settings.model_validate({alone: tmp_path})
