"""The served model as a policy of closed-loop benchmarks."""

import cv2
import numpy as np
import pytest

from models.checkpoint import load_world_model
from models.decoder import DecoderConfig, PixelDecoder, save_decoder
from models.model_folder import save_world_model
from planner_server.errors import StartupError
from planner_server.policy import served, token_energy
from simulation.tasks import make_task

STATE = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.0])
RNG = np.random.default_rng(0)
GOAL, FRAME = RNG.integers(0, 255, (2, 256, 256, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def policy():
    return served()


def test_the_same_questions_get_the_same_answers(policy):
    answers = []
    for _ in range(2):
        policy.begin([GOAL])
        answers.append([policy.act(FRAME, STATE, 0) for _ in range(2)])
    assert np.array_equal(answers[0], answers[1])


def test_the_gripper_is_held_and_the_box_kept(policy):
    policy.begin([GOAL])
    action = policy.act(FRAME, STATE, 0)
    limit = np.array(policy.description["max_step"])
    assert (np.abs(action) <= limit + 1e-9).all()
    assert action[6] == 0.0
    narrow = served(max_step_m=0.02, gripper="planned")
    assert narrow.description["max_step"] == [0.02, 0.02, 0.02, 0.0, 0.0, 0.0, 1.0]
    narrow.begin([GOAL])
    assert np.abs(narrow.act(FRAME, STATE, 0)[:3]).max() <= 0.02 + 1e-9


def test_plans_are_conditioned_on_the_last_frames_of_the_episode(monkeypatch):
    policy, asked = served(context=3), []
    plan = policy._planner.plan
    monkeypatch.setattr(
        policy._planner, "plan", lambda problems: (asked.extend(problems), plan(problems))[1]
    )
    step = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    policy.begin([GOAL])
    for index in range(4):
        policy.act(FRAME, STATE + index * step, 0)
    assert [problem.frames for problem in asked] == [1, 2, 3, 3]
    np.testing.assert_allclose(asked[-1].context_states[:, 0], [0.55, 0.6, 0.65], atol=1e-6)
    np.testing.assert_allclose(asked[-1].context_actions, [step, step], atol=1e-6)
    policy.begin([GOAL])
    policy.act(FRAME, STATE, 0)
    assert asked[-1].frames == 1


def test_energies_of_pictures_are_those_that_plans_report(policy):
    policy.begin([GOAL])
    policy.act(FRAME, STATE, 0)
    energy = token_energy()
    energy.begin([GOAL])
    here, there = energy.energies([FRAME, GOAL], 0)
    assert there == pytest.approx(0.0, abs=1e-5)
    assert here == pytest.approx(policy.numbers["energy_now"], rel=1e-3)


def test_a_policy_says_what_it_is_and_what_it_thought(policy):
    policy.begin([GOAL])
    policy.act(FRAME, STATE, 0)
    assert policy.description["planner"] == "surrogate"
    assert policy.numbers["plan_ms"] > 0
    assert policy.numbers["evaluations"] > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"planner": "magic"}, "magic"),
        ({"planner": "icem", "wheels": 4}, "wheels"),
        ({"gripper": "loose"}, "held or planned"),
        ({"context": 0}, "1 frame or more"),
        ({"model": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(options, said):
    with pytest.raises(StartupError, match=said):
        served(**options)


def test_futures_are_drawn_where_the_model_has_a_decoder(tmp_path):
    actions = np.zeros((3, 7))
    model = load_world_model(policy_model())
    save_world_model(model, tmp_path)
    assert served(model=str(tmp_path)).imagine(FRAME, STATE, actions) is None
    encoder = model.config.encoder
    config = DecoderConfig(
        embed_dim=encoder.embed_dim,
        grid_size=encoder.grid_size,
        img_size=encoder.img_size,
        decoder_embed_dim=32,
        depth=1,
        num_heads=2,
    )
    save_decoder(PixelDecoder(config), tmp_path, metadata={})
    pictures = served(model=str(tmp_path)).imagine(FRAME, STATE, actions)
    assert pictures.dtype == np.uint8
    assert pictures.shape[1:] == (*encoder.img_size, 3)
    assert 1 <= len(pictures) <= 3


def test_the_shipped_model_draws_a_frame_much_as_it_is(policy):
    frame = make_task("reach", 900_001).sub_goals[0].image
    (drawn,) = policy.imagine(frame, STATE, np.zeros((1, 7)))
    seen = cv2.resize(frame, drawn.shape[1::-1], interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(drawn - seen).mean() < 0.5 * np.abs(seen - seen.mean((0, 1))).mean()


def policy_model():
    from planner_server.settings import Settings

    return Settings().model
