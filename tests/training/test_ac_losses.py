"""The losses of post-training against their definition, written out plainly."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.config import EncoderConfig, WorldModelConfig
from models.world_model import WorldModel
from training.ac_losses import follow, imagine, loss_terms
from training.episodes import Windows
from training.windows import WindowSampler, WindowSettings

FRAMES = 5


@pytest.fixture
def windows(linear_episodes):
    data = linear_episodes()
    sampler = WindowSampler(data, data.episodes, WindowSettings(frames=FRAMES))
    return sampler.sample(3, torch.Generator().manual_seed(0))


@pytest.fixture
def predictor(make_predictor):
    network = make_predictor()
    torch.nn.init.normal_(network.predictor_proj.weight, std=0.5)
    return network


def norm(tokens):
    return F.layer_norm(tokens, tokens.shape[-1:])


def published(predictor, windows, steps, second_frame):
    """Teacher forcing and rollout of arXiv 2506.09985 over flat token sequences, N tokens a frame."""
    h, n = windows.tokens.flatten(1, 2), windows.tokens.shape[2]
    states = windows.states
    z_tf = norm(predictor(h[:, :-n], windows.actions, states[:, :-1]))
    z = torch.cat([h[:, :n], z_tf[:, second_frame * n : (second_frame + 1) * n]], dim=1)
    for count in range(2, steps + 1):
        step = norm(predictor(z, windows.actions[:, :count], states[:, :count]))
        z = torch.cat([z, step[:, -n:]], dim=1)
    z_ar = z[:, n:]
    return F.l1_loss(z_tf, h[:, n:]), F.l1_loss(z_ar, h[:, n : n + z_ar.shape[1]])


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_losses_are_the_published_ones(predictor, windows, steps):
    found = loss_terms(predictor, windows, context_frames=FRAMES - 1, rollout_steps=steps)
    torch.testing.assert_close(tuple(found), published(predictor, windows, steps, second_frame=0))


def test_the_defect_of_the_first_published_code_is_a_named_option(predictor, windows):
    found = loss_terms(
        predictor,
        windows,
        context_frames=FRAMES - 1,
        rollout_steps=2,
        context="second_target_as_first_published",
    )
    expected = published(predictor, windows, 2, second_frame=1)
    torch.testing.assert_close(tuple(found), expected)
    assert not torch.allclose(expected[1], published(predictor, windows, 2, second_frame=0)[1])


def test_predicted_states_are_the_first_one_moved_by_the_actions(predictor, windows):
    wrong = replace(windows, states=windows.states.clone())
    wrong.states[:, 1:] += 1.0  # a rollout that is told predicted states cannot notice
    options = dict(context_frames=1, rollout_steps=3)
    told = [
        loss_terms(predictor, w, **options, states="predicted").rollout for w in (windows, wrong)
    ]
    torch.testing.assert_close(told[0], told[1])
    measured = loss_terms(predictor, windows, **options).rollout
    torch.testing.assert_close(told[0], measured, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(measured, loss_terms(predictor, wrong, **options).rollout)


def test_actions_lead_along_the_measured_states(windows):
    torch.testing.assert_close(
        follow(windows.states[:, 0], windows.actions), windows.states, atol=1e-5, rtol=1e-5
    )


def test_gradient_flows_through_the_first_prediction(make_predictor, windows):
    predictor = make_predictor(use_state=False)
    torch.nn.init.normal_(predictor.predictor_proj.weight, std=0.5)
    seen = windows.tokens.clone().requires_grad_()
    terms = loss_terms(predictor, replace(windows, tokens=seen), context_frames=1, rollout_steps=2)
    terms.rollout.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in predictor.parameters())
    assert seen.grad[:, 0].abs().sum() > 0


def test_a_predictor_without_state_token_does_not_see_states(make_predictor, windows):
    predictor = make_predictor(use_state=False)
    torch.nn.init.normal_(predictor.predictor_proj.weight, std=0.5)
    other = replace(windows, states=torch.full_like(windows.states, torch.nan))
    options = dict(context_frames=2, rollout_steps=2)
    torch.testing.assert_close(
        loss_terms(predictor, windows, **options), loss_terms(predictor, other, **options)
    )


def test_exponent_two_is_half_the_mean_square(predictor, windows):
    found = loss_terms(predictor, windows, context_frames=1, exponent=2.0)
    n = windows.tokens.shape[2]
    z = norm(predictor(windows.tokens[:, 0], windows.actions[:, :1], windows.states[:, :1]))
    assert found.rollout is None
    torch.testing.assert_close(
        found.teacher_forcing, F.mse_loss(z.view(-1, 1, n, 24), windows.tokens[:, 1:2]) / 2
    )


def test_the_untrained_residual_predictor_predicts_no_change(make_predictor, windows):
    found = loss_terms(make_predictor(), windows, context_frames=1).teacher_forcing
    still = F.l1_loss(windows.tokens[:, 0], windows.tokens[:, 1])
    torch.testing.assert_close(found, still, atol=1e-3, rtol=1e-3)


def test_imagining_equals_the_rollout_of_the_world_model(predictor, windows):
    encoder = EncoderConfig(img_size=(32, 32), embed_dim=24, depth=1, num_heads=2, num_frames=2)
    config = WorldModelConfig(
        name="w", encoder=encoder, predictor=predictor.config, control_period_s=1, max_step_m=1
    )
    with torch.no_grad():
        expected = WorldModel(config, predictor=predictor).rollout(
            windows.tokens[:, 0], windows.states[:, 0], windows.actions[:, :3]
        )[0]
        found = imagine(
            predictor, windows.tokens[:, 0], windows.states[:, 0], windows.actions[:, :3]
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_windows_move_with_all_their_tensors(windows):
    moved = windows.to(torch.device("meta"))
    assert isinstance(moved, Windows)
    assert {t.device.type for t in (moved.tokens, moved.states, moved.actions)} == {"meta"}
    assert moved.names == windows.names
