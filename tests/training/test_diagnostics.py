"""The report card: its measures obey their laws, and the command makes one of any model."""

import json
import signal
import sys

import numpy as np
import pytest
import torch

from models.checkpoint import save_encoder, save_world_model
from models.config import EncoderConfig, tiny
from models.encoder import VisionTransformer
from models.world_model import WorldModel
from training.__main__ import main
from training.diagnostics.command import BEGIN, END, write_docs
from training.diagnostics.future import judge_future
from training.diagnostics.landscape import recorded_correlations
from training.diagnostics.measures import ranked, ranked_difference, spearman
from training.diagnostics.readout import read_attentively, read_linearly, read_mean
from training.diagnostics.runs import Run, Seen, divide, load_runs, simulated_runs
from training.diagnostics.stillness import judge_change, judge_drift
from training.diagnostics.subject import PixelEye, load_subject
from training.diagnostics.surprise import MODEL, SurpriseTest, draw_splices
from training.errors import ConfigurationError, DataError
from trajectories.poses import compose

TOKENS, DIM = 4, 24


def make_runs(count=12, length=8, seed=0):
    rng = np.random.default_rng(seed)
    runs = []
    for number in range(count):
        states = np.zeros((length, 7))
        states[:, :3] = np.cumsum(rng.uniform(-0.1, 0.1, (length, 3)), axis=0)
        states[:, 6] = rng.uniform(0, 1, length)
        frames = torch.zeros(length, 8, 8, 3, dtype=torch.uint8)
        runs.append(Run(f"run {number}", frames, states))
    return runs


MIXING = torch.randn(3, TOKENS * DIM, generator=torch.Generator().manual_seed(1))


def look(states):
    """Tokens `[..., N, D]` that are a linear function of the position."""
    positions = torch.as_tensor(states)[..., :3].float()
    return (positions @ MIXING).unflatten(-1, (TOKENS, DIM))


def seen(runs):
    return Seen(runs, [look(run.states) for run in runs])


class ExactModel(torch.nn.Module):
    """A world model that knows how `look` follows from actions."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def rollout(self, tokens, state, actions):
        states, poses = state.double().numpy(), []
        for action in actions.double().numpy().transpose(1, 0, 2):
            states = compose(states, action)
            poses.append(states)
        after = torch.from_numpy(np.stack(poses, axis=1)).float()
        return look(after), after


# Ranking ----------------------------------------------------------------------------------------


def test_the_area_counts_pairs_that_are_ranked_rightly():
    names = ["a", "a", "b"]
    found = ranked(np.array([3.0, 1.0, 5.0]), names, np.array([2.0, 1.0, 0.0]), names)
    # 3 > 2, 1, 0; 1 ties with 1 and beats 0; 5 beats all: 3 + 1.5 + 3 of 9.
    assert found.value == pytest.approx(7.5 / 9)


def test_scores_that_say_nothing_have_an_interval_around_one_half():
    rng = np.random.default_rng(0)
    names = [str(number // 10) for number in range(200)]
    found = ranked(rng.normal(size=200), names, rng.normal(size=200), names)
    assert found.low < 0.5 < found.high


def test_turning_scores_around_turns_the_area_around():
    rng = np.random.default_rng(0)
    odd, normal, names = (
        rng.normal(1, 1, 30),
        rng.normal(0, 1, 30),
        [str(i // 3) for i in range(30)],
    )
    forwards, backwards = ranked(odd, names, normal, names), ranked(-odd, names, -normal, names)
    assert forwards.value + backwards.value == pytest.approx(1)
    assert forwards.low + backwards.high == pytest.approx(1)


def test_a_detector_has_no_lead_over_itself_and_one_over_a_coin():
    rng = np.random.default_rng(0)
    names = [str(i // 5) for i in range(100)]
    good = (rng.normal(3, 1, 100), rng.normal(0, 1, 100))
    coin = (rng.normal(0, 1, 100), rng.normal(0, 1, 100))
    assert ranked_difference([good, good], names, names) == (0.0, 0.0)
    low, _ = ranked_difference([good, coin], names, names)
    assert low > 0.2


def test_one_episode_gives_no_interval():
    found = ranked(np.ones(2), ["a", "a"], np.zeros(2), ["a", "a"])
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_rank_correlation_sees_order_only():
    x = np.array([0.1, 0.5, 0.2, 0.9])
    assert spearman(x, np.exp(9 * x)) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert np.isnan(spearman(x, np.ones(4)))


# Read-outs --------------------------------------------------------------------------------------


def test_a_linear_regressor_finds_a_linear_code():
    learned, judged = divide(make_runs(20), 0.3)
    found = read_linearly("eye", seen(learned), seen(judged))
    assert found.error_m.mean < 0.01
    assert read_mean(learned, judged).error_m.mean > 0.05


def test_an_attentive_regressor_finds_it_too():
    learned, judged = divide(make_runs(20), 0.3)
    found = read_attentively("eye", seen(learned), seen(judged), steps=150)
    assert found.error_m.mean < 0.5 * read_mean(learned, judged).error_m.mean


def test_tokens_that_say_nothing_are_no_better_than_the_mean():
    learned, judged = divide(make_runs(20), 0.3)
    noise = torch.Generator().manual_seed(0)
    blind = [
        Seen(runs, [torch.randn(len(r.states), TOKENS, DIM, generator=noise) for r in runs])
        for runs in (learned, judged)
    ]
    mean = read_mean(learned, judged).error_m
    assert read_linearly("noise", *blind).error_m.mean > 0.8 * mean.mean


# Stillness, future, surprise, energy ------------------------------------------------------------


def test_tokens_change_where_the_arm_moves():
    runs = make_runs()
    for run in runs:
        run.states[4:, :3] = run.states[3, :3]
    found = judge_change("eye", seen(runs))
    assert found.resting.mean == pytest.approx(0, abs=1e-6)
    assert found.moving.mean > 0.01


def test_a_model_that_knows_the_world_makes_no_errors_and_does_not_drift():
    model, view = ExactModel(), seen(make_runs())
    for step in judge_future(model, view, 3):
        assert step.error.mean == pytest.approx(0, abs=1e-5)
        assert step.copied.mean > 0.01
        assert step.other_actions.mean > 0.01
        assert step.gain.is_sure
    assert max(step.error.mean for step in judge_drift(model, view)) < 1e-5


def test_the_error_of_copying_grows_with_the_horizon():
    copied = [step.copied.mean for step in judge_future(ExactModel(), seen(make_runs(40)), 3)]
    assert copied == sorted(copied)


def test_splices_show_what_their_names_say():
    runs = make_runs()
    splices = draw_splices(runs)
    assert {splice.kind for splice in splices} == {"jump", "freeze", "stranger"}
    for splice in splices:
        owner, row = splice.shown
        run = runs[splice.run]
        if splice.kind == "jump":
            apart = run.positions_m[row] - run.positions_m[splice.row + 1]
            assert owner == splice.run
            assert np.linalg.norm(apart) >= 0.05
        elif splice.kind == "freeze":
            moved = run.positions_m[splice.row + 1] - run.positions_m[splice.row]
            assert (owner, row) == (splice.run, splice.row)
            assert np.linalg.norm(moved) >= 0.03
        else:
            assert owner != splice.run


def test_a_model_that_knows_the_world_finds_every_splice():
    view = seen(make_runs())
    test = SurpriseTest(ExactModel(), {"encoder": view})
    for found in test.detections():
        if found.detector == MODEL:
            assert found.area.value > 0.99
    curve = test.curve("jump")
    assert int(curve.scores[MODEL].argmax()) == curve.splice.row


def test_a_stuck_camera_looks_calm_to_those_who_watch_change_only():
    found = SurpriseTest(None, {"pixels": seen(make_runs())}).detections()
    assert {one.detector for one in found} == {"pixels"}
    frozen = next(one for one in found if one.kind == "freeze")
    assert frozen.area.value == pytest.approx(0, abs=1e-6)


def test_an_energy_that_is_the_distance_correlates_fully():
    (found,) = recorded_correlations({"encoder": seen(make_runs())})
    assert found.overall.mean > 0.8  # a random projection bends it a little
    assert found.lead is None


# Runs and subjects ------------------------------------------------------------------------------


def test_pixels_become_patches_that_keep_their_difference():
    eye = PixelEye((32, 32), 16, "centre_square")
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[1, :32, :32] = 255
    tokens = eye.encode(frames)
    assert tokens.shape == (2, 4, 3 * 64)
    change = (tokens[1] - tokens[0]).abs().mean(dim=1)
    assert (change > 0).tolist() == [True, False, False, False]


def test_the_last_runs_are_kept_to_judge_by():
    learned, judged = divide(make_runs(10), 0.3)
    assert [run.name for run in judged] == ["run 7", "run 8", "run 9"]
    assert len(learned) == 7


def test_recordings_of_another_rhythm_or_too_few_are_refused(make_shards, tmp_path):
    with pytest.raises(ConfigurationError, match="control_period_s"):
        load_runs(make_shards(tmp_path / "many"), 0.4)
    with pytest.raises(DataError, match="at least 2 are needed"):
        load_runs(make_shards(tmp_path / "one", episodes=1), 1.0)
    with pytest.raises(DataError, match="no camera 'wrist'"):
        load_runs(make_shards(tmp_path / "view"), 1.0, "wrist")


def test_runs_are_simulated_once_and_only_into_a_folder_of_their_own(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    before = signal.getsignal(signal.SIGTERM)
    assert simulated_runs(folder, 2, 0.2, 0.1) == folder
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert load_runs(folder, 0.2).period_s == 0.2
    simulated_runs(folder, 2, 0.2, 0.1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == made
    with pytest.raises(DataError, match="give the same recipe"):
        simulated_runs(folder, 2, 0.2, 0.05)
    with pytest.raises(DataError, match="control_period_s"):
        simulated_runs(tmp_path / "never", 2, 0.0, 0.1)
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setitem(sys.modules, "simulation.generate", None)
    with pytest.raises(DataError, match=r"install vjepa-planner\[sim\], or pass --data"):
        simulated_runs(folder, 2, 0.2, 0.1)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe#", "cannot be read"),
        (b"# Card\n", "add both lines"),
        (END.encode(), "add both"),
    ],
)
def test_a_page_without_marks_is_left_as_it_is(page, said, tmp_path):
    path = tmp_path / "card.md"
    if page is not None:
        path.write_bytes(page)
    with pytest.raises(ConfigurationError, match=said):
        write_docs(None, path)
    assert page is None or path.read_bytes() == page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--episodes", "1"], "--episodes 1 and --horizon 4; at least 2 and 1"),
        (["--horizon", "0"], "--horizon 0; at least 2 and 1"),
        (["--period-s", "0.3"], "was trained for 1 s; leave it out"),
    ],
)
def test_a_card_that_cannot_be_made_is_refused_at_once(options, said, tmp_path, capsys):
    command = ["diagnose", "--model", "models/shipped", "--output", str(tmp_path)]
    assert main([*command, *options]) == 1
    assert said in capsys.readouterr().err


@pytest.fixture
def few_goals(monkeypatch):
    monkeypatch.setattr("training.diagnostics.landscape._WORKCELLS", 2)


def run_command(tmp_path, model, data, *more):
    arguments = ["diagnose", "--model", str(model), "--output", str(tmp_path / "card")]
    assert main([*arguments, "--data", str(data), *more]) == 0
    card = json.loads((tmp_path / "card" / "report_card.json").read_text())["card"]
    return card, (tmp_path / "card" / "report_card.html").read_text()


def test_a_world_model_gets_a_whole_card(tmp_path, make_shards, few_goals, capsys):
    torch.manual_seed(0)
    save_world_model(WorldModel(tiny()), tmp_path / "model")
    data = make_shards(tmp_path / "episodes", episodes=8)
    docs = tmp_path / "page.md"
    docs.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    more = ["--horizon", "2", "--docs", str(docs)]
    card, page = run_command(tmp_path, tmp_path / "model", data, *more)
    written = docs.read_text()
    assert written.startswith("above\n")
    assert written.endswith("below\n")
    assert "| encoder | linear |" in written
    assert "old" not in written
    printed = capsys.readouterr().out
    flat = " ".join(printed.split())  # titles may be broken into lines
    for question in ("read out", "tell things apart", "How far ahead", "cannot have happened"):
        assert question in flat
        assert question in page
    assert [step["steps"] for step in card["future"]] == [1, 2]
    assert {each["detector"] for each in card["detections"]} == {MODEL, "encoder", "pixels"}
    assert {each["eye"] for each in card["readouts"]} >= {"encoder", "random weights", "pixels"}
    assert card["landscape"]["goals"] == 2
    assert card["missing"] == {}
    assert page.count("<svg") >= 4


def test_an_encoder_alone_gets_a_card_that_says_what_is_missing(tmp_path, make_shards, few_goals):
    torch.manual_seed(0)
    config = EncoderConfig(
        img_size=(32, 32), patch_size=8, num_frames=4, embed_dim=48, depth=1, num_heads=2
    )
    save_encoder(VisionTransformer(config), tmp_path / "encoder")
    assert load_subject(str(tmp_path / "encoder")).model is None
    data = make_shards(tmp_path / "episodes")
    card, page = run_command(tmp_path, tmp_path / "encoder", data)
    assert set(card["missing"]) == {"drift", "future", "surprise"}
    assert card["future"] == []
    assert {each["detector"] for each in card["detections"]} == {"encoder", "pixels"}
    assert "not measured" in page


def test_real_recordings_get_a_card(tmp_path, shared_dir, few_goals):
    torch.manual_seed(0)
    save_world_model(WorldModel(tiny()), tmp_path / "model")
    card, _ = run_command(tmp_path, tmp_path / "model", shared_dir / "data" / "droid_raw")
    assert card["learned"] + card["judged"] == 4
    assert card["recorded"][0]["overall"]["episodes"] == card["judged"]


@pytest.mark.slow
def test_the_shipped_model_is_fit_for_planning(tmp_path):
    arguments = ["diagnose", "--model", "models/shipped", "--output", str(tmp_path)]
    assert main([*arguments, "--episodes", "48"]) == 0
    card = json.loads((tmp_path / "report_card.json").read_text())["card"]
    first = card["future"][0]
    assert first["gain"]["difference"]["high"] < 0
    jumps = {d["detector"]: d for d in card["detections"] if d["kind"] == "jump"}
    assert jumps[MODEL]["area"]["low"] > 0.8
    assert jumps["pixels"]["lead"][0] > 0
