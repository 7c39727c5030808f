"""Post-training: triples, input scales, and a loss that really falls."""

import numpy as np
import pytest
import torch

from models.ac_predictor import ACPredictor
from models.config import ACPredictorConfig
from training.config import OptimiserConfig
from training.errors import DivergedError
from training.optimiser import Optimiser
from training.posttrain import TransitionSampler, one_step_loss, rollout_loss, scale_inputs
from trajectories.poses import compose

EPISODES, LENGTH, TOKENS, DIM = 5, 6, 4, 24


def tiny_predictor():
    torch.manual_seed(0)
    config = ACPredictorConfig(
        grid_size=(2, 2), embed_dim=DIM, predictor_embed_dim=32, depth=2, num_heads=2, residual=True
    )
    return ACPredictor(config)


@pytest.fixture
def data():
    """Tokens that are a fixed linear function of the position, layer-normed."""
    rng = np.random.default_rng(0)
    states = np.zeros((EPISODES, LENGTH, 7))
    states[..., :3] = np.cumsum(rng.uniform(-0.1, 0.1, (EPISODES, LENGTH, 3)), axis=1)
    mixing = torch.randn(3, TOKENS * DIM, generator=torch.Generator().manual_seed(1))
    raw = torch.from_numpy(states[..., :3]).float() @ mixing * 5
    raw = raw + torch.randn(TOKENS * DIM, generator=torch.Generator().manual_seed(2))
    tokens = torch.nn.functional.layer_norm(raw.unflatten(-1, (TOKENS, DIM)), (DIM,))
    return tokens.half(), states


def optimiser_config(**changes):
    values = dict(steps=300, batch_size=16, learning_rate=3e-3, warmup_steps=5, weight_decay=0.0)
    return OptimiserConfig(**{**values, **changes})


def test_triples_stay_within_an_episode_and_the_box(data):
    tokens, states = data
    sampler = TransitionSampler(tokens, states, max_stride=3, max_step_m=0.08)
    batch = sampler.sample(200, torch.Generator().manual_seed(0))
    assert batch.actions[:, 0, :3].abs().max() <= 0.08
    reached = compose(batch.states[:, :2].double().numpy(), batch.actions.double().numpy())
    np.testing.assert_allclose(reached[..., :3], batch.states[:, 1:, :3].numpy(), atol=1e-6)


def test_triples_of_several_strides_are_drawn(data):
    tokens, states = data
    one = TransitionSampler(tokens, states, max_stride=1, max_step_m=1.0)
    three = TransitionSampler(tokens, states, max_stride=3, max_step_m=1.0)
    assert len(three) > len(one) == EPISODES * (LENGTH - 2)


def test_scaled_inputs_have_unit_variance(data):
    _, states = data
    predictor = tiny_predictor()
    scale_inputs(predictor, states, action_scale_m=0.05)
    actions = torch.zeros(1000, 7)
    actions[:, :3] = 0.05 * torch.randn(1000, 3)
    encoded = predictor.action_encoder(actions)
    assert 0.2 < float(encoded.detach().std()) < 2.0


def test_the_loss_falls_on_a_world_that_can_be_learned(data):
    tokens, states = data
    sampler = TransitionSampler(tokens, states, max_stride=2, max_step_m=0.3)
    predictor = tiny_predictor()
    scale_inputs(predictor, states, action_scale_m=0.05)
    optimiser = Optimiser([predictor], optimiser_config())
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in range(300):
        loss = one_step_loss(predictor, sampler.sample(16, generator))
        optimiser.step(loss, step)
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.4 * losses[0]


def test_the_untrained_residual_predictor_predicts_no_change(data):
    tokens, states = data
    sampler = TransitionSampler(tokens, states, max_stride=1, max_step_m=1.0)
    batch = sampler.sample(8, torch.Generator().manual_seed(0))
    copying = (batch.tokens[:, 0] - batch.tokens[:, 1]).abs().mean()
    loss = one_step_loss(tiny_predictor(), batch)
    torch.testing.assert_close(loss, copying, atol=1e-3, rtol=1e-3)


def test_gradient_of_the_rollout_flows_through_the_first_prediction(data):
    tokens, states = data
    sampler = TransitionSampler(tokens, states, max_stride=1, max_step_m=1.0)
    batch = sampler.sample(4, torch.Generator().manual_seed(0))
    predictor = tiny_predictor()
    torch.nn.init.normal_(predictor.predictor_proj.weight, std=0.1)
    rollout_loss(predictor, batch).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for name, parameter in predictor.named_parameters()
        if "extrinsics" not in name
    )


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_weights(data):
    predictor = tiny_predictor()
    before = predictor.predictor_proj.weight.clone()
    optimiser = Optimiser([predictor], optimiser_config())
    with pytest.raises(DivergedError, match="step 3"):
        optimiser.step(torch.tensor(float("nan"), requires_grad=True), 3)
    torch.testing.assert_close(predictor.predictor_proj.weight, before)
