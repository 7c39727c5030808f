"""Replay of recorded episodes: in this process and through a real server, from the command line to the page."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from planner_server.planning import Plan
from planner_server.replay.__main__ import main as replay_in_process
from planner_server.replay.local_planner import LocalPlanner
from planner_server.served_model import load_served_model
from planner_server.settings import Settings as ServerSettings
from robot_client.cli import main as robot_client
from robot_client.planner_client import ServerAddress
from robot_client.replay.checkpoint_server import CheckpointServer
from robot_client.replay.remote_planner import RemotePlanner
from robot_client.rest import RestClient, SessionOptions
from trajectories.cameras import ArrayCamera
from trajectories.droid_raw_writer import write_episode
from trajectories.episode import Episode, Provenance
from trajectories.replay.engine import Replay
from trajectories.replay.errors import ReplayError
from trajectories.replay.questions import Question, spans
from trajectories.replay.results import Settings, read_json

QUICK = ["--planner", "icem", "--candidates", "20"]


def made_up(seed: int, rows: int = 6) -> Episode:
    """An episode at one row per second whose picture follows the arm."""
    random = np.random.default_rng(seed)
    states = np.cumsum(random.normal(0, 0.03, (rows, 7)), axis=0)
    states += [0.5, 0.0, 0.3, 3.0, 0.0, 0.1, 0.3]
    states[:, 6] = states[:, 6].clip(0, 1)
    frames = random.integers(0, 60, (rows, 48, 64, 3)).astype(np.uint8)
    for row in range(rows):
        column = int(10 + 200 * (states[row, 1] + 0.1)) % 50
        frames[row, 10:30, column : column + 12] = (220, 40, 40)
    return Episode(
        name=f"episode-{seed}",
        states=states,
        times_s=np.arange(rows, dtype=np.float64),
        cameras={"left": ArrayCamera(frames)},
        clock="measured",
        provenance=Provenance("droid_raw", "made up", {"uuid": f"LAB+{seed}"}),
        task=f"task {seed}",
        success=True,
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good episodes, one whose video was cut short."""
    root = tmp_path_factory.mktemp("droid") / "LAB" / "success" / "2024-05-01"
    for seed in range(3):
        write_episode(made_up(seed), root / f"run_{seed}")
    (video,) = (root / "run_2").glob("recordings/MP4/*.mp4")
    video.write_bytes(video.read_bytes()[:700])
    return root.parents[2]


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[CheckpointServer]:
    """A real server process that computes as this process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANNER_PRECISION", "float32")
        patch.setenv("PLANNER_TORCH_THREADS", "1")
        with CheckpointServer(tiny_model) as running:
            yield running


@pytest.fixture
def address(server: CheckpointServer) -> list[str]:
    endpoint = RestClient(server.url).model()["zmq_endpoint"]
    return ["--server", endpoint, "--http", server.url]


def test_both_ways_make_the_same_plans_and_the_whole_report(
    recordings: Path,
    tiny_model: Path,
    address: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLANNER_PRECISION", "float32")
    common = [str(recordings), *QUICK, "--landscape", "--max-bad", "1"]
    local = ["--model", str(tiny_model), "--output", str(tmp_path / "local")]
    wire = [*address, "--output", str(tmp_path / "wire")]
    assert replay_in_process([*common, *local]) == 0
    assert robot_client(["replay", *common, *wire]) == 0
    said = capsys.readouterr().out
    assert said.count("skipped") == 2
    results = [read_json(tmp_path / way / "icem.json") for way in ("local", "wire")]
    for ours, theirs in zip(results[0].steps, results[1].steps, strict=True):
        np.testing.assert_allclose(ours.planned, theirs.planned, atol=1e-5)
        assert ours.energy_now == pytest.approx(theirs.energy_now, rel=1e-4)
        assert ours.energy_recorded == pytest.approx(theirs.energy_recorded, rel=1e-3)
        assert ours.surprise == pytest.approx(theirs.surprise, rel=1e-3)
        assert ours.rank_of_recorded == pytest.approx(theirs.rank_of_recorded, abs=0.1)
    for result, way in zip(results, ("local", "wire"), strict=True):
        assert len(result.episodes) == 2
        assert len(result.steps) == 10
        assert len(result.landscapes) == 2
        assert [each.episode for each in result.skipped] == ["LAB/success/2024-05-01/run_2"]
        assert "run_2" in (tmp_path / way / "index.html").read_text()
        assert not result.missing
        assert result.timing.overhead is not None
    files = [tmp_path / way / "icem.json" for way in ("local", "wire")]
    compared = ["replay", "compare", *map(str, files), "--output", str(tmp_path / "c.html")]
    assert robot_client(compared) == 0
    assert "No difference can be told" in (tmp_path / "c.html").read_text()


def test_more_bad_episodes_than_allowed_fail_the_command_but_not_the_report(
    recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report"
    command = [str(recordings), *QUICK, "--model", str(tiny_model), "--output", str(output)]
    assert replay_in_process(command) == 1
    assert (output / "index.html").is_file()
    assert replay_in_process(command) == 2  # it is not written over


def test_a_longer_horizon_compares_net_motions_and_leaves_the_last_steps_out_of_means(
    recordings: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNER_HORIZON", "3")
    output = tmp_path / "report"
    command = [str(recordings), *QUICK, "--model", str(tiny_model), "--output", str(output)]
    assert replay_in_process([*command, "--max-bad", "1", "--batch", "4"]) == 0
    result = read_json(output / "icem.json")
    assert result.settings.goal_steps == 3
    assert {len(step.planned) for step in result.steps} == {3}
    assert len(result.steps) == 10
    assert len(result.full_steps()) == 6
    step = result.steps[0]
    error_m = np.abs(np.sum(step.planned, axis=0) - np.sum(step.recorded, axis=0))[:3].sum()
    assert step.policies["plan"].end_distance_xyz_m == pytest.approx(error_m)
    assert replay_in_process([*command, "--goal-steps", "2"]) == 2


def test_nothing_but_bad_episodes_is_an_error_that_names_them(
    recordings: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(recordings / "LAB" / "success" / "2024-05-01" / "run_2", tmp_path / "bad" / "r")
    output = tmp_path / "report"
    command = [str(tmp_path / "bad"), "--model", str(tiny_model), "--output", str(output)]
    assert replay_in_process([*command, "--max-bad", "9"]) == 2
    assert "r: " in capsys.readouterr().err
    assert not output.exists()


def test_several_planners_draws_and_a_far_goal(
    recordings: Path, tiny_model: Path, address: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "report"
    command = ["replay", str(recordings), *QUICK, "--planner", "cem", "--max-bad", "1"]
    command += [*address, "--draws", "4", "--goal-steps", "end", "--output", str(output)]
    assert robot_client(command) == 0
    names = {path.name for path in output.iterdir()}
    assert {"icem.json", "cem.json", "index.html"} <= names
    icem, cem = (read_json(output / f"{name}.json") for name in ("icem", "cem"))
    asked = [
        [(step.episode, step.step, step.goal_step) for step in each.steps] for each in (icem, cem)
    ]
    assert asked[0] == asked[1]
    assert 1 <= len(asked[0]) <= 4
    assert all(goal == 5 for _, _, goal in asked[0])
    assert all(step.energy_to_end == step.energy_now for step in icem.steps)


class OldServer(RestClient):
    """A client of a server that has not heard of energies yet."""

    def energies(self, frame, goal, state, actions):  # type: ignore[no-untyped-def]
        return self._request("POST", "/v1/no-such-thing", json.dumps({}).encode())


def test_a_server_without_energies_is_asked_once_and_the_result_says_so(
    recordings: Path, server: CheckpointServer
) -> None:
    rest = OldServer(server.url)
    address = ServerAddress(rest.model()["zmq_endpoint"])
    settings = Settings(
        goal_steps=1, every=1, draws=None, seed=0, view="left", clock="real", candidates=4
    )
    with RemotePlanner(address, rest, SessionOptions(planner="icem"), "icem") as planner:
        replay = Replay(planner, settings, landscapes=1)
        replay.add(made_up(0), "left", spans(6, 1, 1))
    result = replay.result()
    assert "POST /v1/energy" in result.missing["surprise"]
    assert result.summary["do_nothing"]["energy"].mean is not None
    assert result.summary["plan"]["action_score"].mean is not None


def test_data_that_the_server_refuses_spoil_their_episode_only(server: CheckpointServer) -> None:
    rest = RestClient(server.url)
    address = ServerAddress(rest.model()["zmq_endpoint"])
    settings = Settings(
        goal_steps=1, every=1, draws=None, seed=0, view="left", clock="real", candidates=4
    )
    bad = made_up(0)
    bad.states[3] = 50.0  # no pose of a robot
    with RemotePlanner(address, rest, SessionOptions(planner="icem"), "icem") as planner:
        replay = Replay(planner, settings)
        with pytest.raises(ReplayError, match="the server refuses it"):
            replay.add(bad, "left", spans(6, 1, 1))
        replay.add(made_up(1), "left", spans(6, 1, 1))
    assert [each.name for each in replay.result().episodes] == ["episode-1"]


def test_no_server_is_said_with_the_remedy(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = ["--server", "tcp://127.0.0.1:9", "--http", "http://127.0.0.1:9"]
    output = tmp_path / "report"
    assert robot_client(["replay", str(recordings), *nobody, "--output", str(output)]) == 2
    assert "uvicorn planner_server.app:app" in capsys.readouterr().err
    assert not output.exists()


def test_what_cannot_be_compared_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert robot_client(["replay", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "episodes"),
    [("droid_raw", 4), ("droid_lerobot_v3", 2), ("franka_example_traj.npz", 1)],
)
def test_real_recordings_replay_with_the_shipped_model(
    shared_dir: Path, shipped_model: Path, tmp_path: Path, path: str, episodes: int
) -> None:
    output = tmp_path / "report"
    source = str(shared_dir / "data" / path)
    command = ["replay", source, "--checkpoint", str(shipped_model), "--output", str(output)]
    assert robot_client([*command, "--landscape"]) == 0
    (found,) = output.glob("*.json")
    result = read_json(found)
    assert len(result.episodes) == episodes
    assert not result.skipped
    assert not result.missing
    assert len(result.landscapes) == episodes


def test_a_step_for_which_the_model_predicts_no_numbers_is_an_error_of_its_batch(
    tiny_model: Path,
) -> None:
    model = load_served_model(ServerSettings(model=tiny_model, precision="float32"))
    planner = LocalPlanner(model, "icem", horizon=1, deadline_ms=None, batch=2, label="l")
    searching = planner._planner

    class SecondFails:
        def plan(self, problems: Any, budget: Any) -> list[Plan]:
            first, second = searching.plan(problems, replace(budget, max_evaluations=8))
            return [first, replace(second, energy=float("nan"))]

    planner._planner = cast(Any, SecondFails())
    frame, still = np.zeros((64, 64, 3), np.uint8), np.zeros((1, 7))
    state = np.array([0.5, 0.0, 0.3, 3.0, 0.0, 0.0, 0.0])
    asked = [
        Question("e", span, 0.0, frame, state, frame, frame, frame, still, None, seed)
        for seed, span in enumerate(spans(4, 1, 1)[:2])
    ]
    with pytest.raises(ReplayError, match="from step 0: the model predicts no numbers"):
        list(planner.plan(iter(asked)))
