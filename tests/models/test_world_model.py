"""What planning relies on: normalised tokens, exact rollouts, refused nonsense."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.config import ACPredictorConfig, WorldModelConfig, tiny
from models.errors import InvalidInputError
from models.poses import compose
from models.world_model import WorldModel


def random_frames(batch: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 40, 50, 3), dtype=torch.uint8)


def assert_normalised(tokens: torch.Tensor) -> None:
    zeros = torch.zeros(tokens.shape[:-1])
    torch.testing.assert_close(tokens.mean(-1), zeros, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, correction=0), zeros + 1, atol=1e-2, rtol=0)


def residual_config() -> WorldModelConfig:
    config = tiny()
    predictor = {**config.predictor.model_dump(), "residual": True}
    return config.model_copy(update={"predictor": ACPredictorConfig.model_validate(predictor)})


def test_single_frames_give_the_reference_representation(
    golden_model: WorldModel, encoder_vectors: dict[str, Any]
) -> None:
    pair = encoder_vectors["frame_pair"]
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    frames = ((pair[:, :, 0] * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    clip = ((frames.float() / 255 - mean) / std).unsqueeze(2).expand(-1, -1, 2, -1, -1)
    expected = F.layer_norm(golden_model.encoder(clip), (128,))
    tokens = golden_model.encode(frames.permute(0, 2, 3, 1))
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_step_is_the_normalised_reference_prediction(
    golden_model: WorldModel, ac_vectors: dict[str, Any], frames: int
) -> None:
    tokens = golden_model.step(
        ac_vectors["tokens"][:, : frames * 16],
        ac_vectors["actions"][:, :frames],
        ac_vectors["states"][:, :frames],
    )
    expected = F.layer_norm(ac_vectors[f"out_T{frames}"][:, -16:], (128,))
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [tiny(), residual_config()], ids=["plain", "residual"])
def test_all_tokens_are_layer_normed(config: WorldModelConfig) -> None:
    torch.manual_seed(0)
    model = WorldModel(config).requires_grad_(requires_grad=False)
    tokens = model.encode(random_frames(2))
    assert tokens.shape == (2, model.tokens_per_frame, model.embed_dim)
    predicted, _ = model.rollout(tokens, torch.zeros(2, 7), torch.rand(2, 2, 7))
    assert_normalised(tokens)
    assert_normalised(predicted)


def test_a_rollout_is_steps_on_the_whole_history_with_composed_poses(
    tiny_model: WorldModel,
) -> None:
    context = tiny_model.encode(random_frames(2))
    state, actions = torch.rand(2, 7), torch.rand(2, 3, 7) - 0.5
    tokens, states = tiny_model.rollout(context, state, actions)

    history, poses = context, state.unsqueeze(1)
    for index in range(3):
        following = tiny_model.step(history, actions[:, : index + 1], poses)
        torch.testing.assert_close(tokens[:, index], following)
        history = torch.cat([history, following], dim=1)
        poses = torch.cat([poses, compose(poses[:, -1:], actions[:, index : index + 1])], dim=1)
    torch.testing.assert_close(states, poses[:, 1:])


def test_candidates_do_not_see_each_other(tiny_model: WorldModel) -> None:
    context = tiny_model.encode(random_frames(1))
    actions = torch.rand(4, 2, 7)
    together, _ = tiny_model.rollout(context.expand(4, -1, -1), torch.zeros(4, 7), actions)
    alone, _ = tiny_model.rollout(context, torch.zeros(1, 7), actions[2:3])
    torch.testing.assert_close(together[2:3], alone)


def test_actions_matter(tiny_model: WorldModel) -> None:
    context = tiny_model.encode(random_frames(1)).expand(2, -1, -1)
    actions = torch.stack([torch.zeros(1, 7), torch.ones(1, 7)])
    predicted, _ = tiny_model.rollout(context, torch.zeros(2, 7), actions)
    assert not torch.allclose(predicted[0], predicted[1])


def test_bfloat16_weights_and_autocast_stay_near_single_precision(tiny_model: WorldModel) -> None:
    frames, state, actions = random_frames(1), torch.rand(1, 7), torch.rand(1, 2, 7)
    exact, _ = tiny_model.rollout(tiny_model.encode(frames), state, actions)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = tiny_model.rollout(tiny_model.encode(frames), state, actions)
    tiny_model.bfloat16()
    half, states = tiny_model.rollout(tiny_model.encode(frames), state, actions)
    assert half.dtype == states.dtype == torch.float32
    for rough in (mixed, half):
        assert (rough - exact).abs().mean() < 0.05


def test_a_planner_may_follow_the_gradient_to_the_actions(tiny_model: WorldModel) -> None:
    actions = torch.zeros(1, 2, 7, requires_grad=True)
    context = tiny_model.encode(random_frames(1))
    predicted, _ = tiny_model.rollout(context, torch.full((1, 7), 0.5), actions)
    (gradient,) = torch.autograd.grad(predicted[..., 0].sum(), actions)
    assert bool(torch.isfinite(gradient).all())
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tiny_model: WorldModel, value: float) -> None:
    tokens = tiny_model.encode(random_frames(1))
    good, bad = torch.zeros(1, 1, 7), torch.zeros(1, 1, 7)
    bad[0, 0, 2] = value
    with pytest.raises(InvalidInputError, match="actions"):
        tiny_model.rollout(tokens, good[0], bad)
    with pytest.raises(InvalidInputError, match="state"):
        tiny_model.rollout(tokens, bad[0], good)
    with pytest.raises(InvalidInputError, match="states"):
        tiny_model.step(tokens, good, bad)


def test_shapes_that_do_not_fit_are_refused(tiny_model: WorldModel) -> None:
    tokens = tiny_model.encode(random_frames(1))
    with pytest.raises(InvalidInputError, match="H >= 1"):
        tiny_model.rollout(tokens, torch.zeros(1, 7), torch.zeros(1, 0, 7))
    with pytest.raises(InvalidInputError, match=r"expected \[B, 7\]"):
        tiny_model.rollout(tokens, torch.zeros(7), torch.zeros(1, 1, 7))
    with pytest.raises(InvalidInputError, match="actions have shape"):
        tiny_model.rollout(tokens, torch.zeros(1, 7), torch.zeros(2, 1, 7))
    with pytest.raises(InvalidInputError, match="frames have shape"):
        tiny_model.encode(torch.zeros(1, 40, 50, 4, dtype=torch.uint8))


def test_a_model_without_a_state_token_plans_whatever_the_pose() -> None:
    config = tiny()
    predictor = config.predictor.model_copy(update={"use_state": False})
    torch.manual_seed(0)
    model = WorldModel(config.model_copy(update={"predictor": predictor})).eval()
    context, actions = model.encode(random_frames(1)), torch.rand(1, 2, 7) * 0.1
    here, states = model.rollout(context, torch.zeros(1, 7), actions)
    there, _ = model.rollout(context, torch.full((1, 7), 0.4), actions)
    assert torch.equal(here, there)
    torch.testing.assert_close(states[:, 0], compose(torch.zeros(1, 7), actions[:, 0]))


def test_a_predictor_that_needs_camera_poses_cannot_plan() -> None:
    config = tiny()
    predictor = config.predictor.model_copy(update={"use_extrinsics": True})
    with pytest.raises(InvalidInputError, match="extrinsics"):
        WorldModel(config.model_copy(update={"predictor": predictor}))


@pytest.mark.gpu
def test_cuda_gives_the_tokens_of_the_cpu(tiny_model: WorldModel) -> None:
    frames, state, actions = random_frames(2), torch.rand(2, 7), torch.rand(2, 3, 7) - 0.5
    context = tiny_model.encode(frames)
    tokens, states = tiny_model.rollout(context, state, actions)
    tiny_model.cuda()
    cuda_tokens, cuda_states = tiny_model.rollout(
        tiny_model.encode(frames), state.cuda(), actions.cuda()
    )
    torch.testing.assert_close(cuda_tokens.cpu(), tokens, atol=1e-3, rtol=0)
    torch.testing.assert_close(cuda_states.cpu(), states, atol=1e-5, rtol=0)
