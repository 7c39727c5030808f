"""The cache changes nothing: imagined futures equal those computed from scratch, frame by frame."""

import copy

import pytest
import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.config import ACPredictorConfig
from models.errors import InvalidInputError
from models.layers import normalise
from models.packed import can_pack, packed_rollout
from models.poses import compose
from models.rollout import ACRollout

VARIANTS = {
    "published": {},
    "residual": {"residual": True},
    "without state": {"use_state": False},
    "true rotations": {"rope": "vjepa2_1"},
}


def make_predictor(**options: object) -> ACPredictor:
    torch.manual_seed(0)
    config = ACPredictorConfig.model_validate(
        {
            "grid_size": (3, 4),
            "embed_dim": 40,
            "predictor_embed_dim": 48,
            "depth": 3,
            "num_heads": 2,
            "max_frames": 8,
            **options,
        }
    )
    predictor = ACPredictor(config).requires_grad_(requires_grad=False)
    for weight in predictor.parameters():  # far from the small initial weights, so that all matters
        weight.copy_(torch.randn_like(weight) / weight.shape[-1] ** 0.5)
    return predictor


def make_inputs(problems: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    tokens = normalise(torch.randn(problems, frames * 12, 40))
    return tokens, torch.rand(problems, frames, 7), torch.rand(problems, frames - 1, 7) - 0.5


def from_scratch(
    predictor: ACPredictor, tokens: Tensor, states: Tensor, past: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Send the whole history of one candidate of one problem through the masked predictor, each step."""
    frames, poses = [], []
    for step in range(len(actions)):
        past = torch.cat([past, actions[None, step, None]], dim=1)
        known = states if predictor.config.use_state else None
        frames.append(normalise(predictor(tokens, past, known)[:, -12:]))
        poses.append(compose(states[:, -1], actions[None, step]))
        tokens = torch.cat([tokens, frames[-1]], dim=1)
        states = torch.cat([states, poses[-1][:, None]], dim=1)
    return torch.cat(frames), torch.cat(poses)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    ("problems", "candidates", "frames", "horizon"), [(1, 1, 1, 1), (2, 3, 1, 5), (2, 3, 3, 4)]
)
def test_cached_rollouts_equal_uncached_ones(
    name: str, problems: int, candidates: int, frames: int, horizon: int
) -> None:
    predictor = make_predictor(**VARIANTS[name])
    context, actions = (
        make_inputs(problems, frames),
        torch.rand(problems, candidates, horizon, 7) - 0.5,
    )
    rollout = ACRollout(predictor)
    tokens, poses = rollout.imagine(rollout.remember(*context), actions)
    assert tokens.shape == (problems, candidates, horizon, 12, 40)
    for problem in range(problems):
        given = [value[problem, None] for value in context]
        for candidate in range(candidates):
            expected = from_scratch(predictor, *given, actions[problem, candidate])
            torch.testing.assert_close(tokens[problem, candidate], expected[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(poses[problem, candidate], expected[1], atol=1e-6, rtol=0)


def test_frames_already_imagined_do_not_change_when_more_are_appended() -> None:
    rollout, context, actions = (
        ACRollout(make_predictor()),
        make_inputs(1, 2),
        torch.rand(1, 3, 6, 7),
    )
    memory = rollout.remember(*context)
    long, _ = rollout.imagine(memory, actions)
    for horizon in (1, 3):
        short, _ = rollout.imagine(memory, actions[:, :, :horizon])
        torch.testing.assert_close(short, long[:, :, :horizon], atol=1e-5, rtol=0)


def test_every_frame_of_the_context_matters() -> None:
    rollout, actions = ACRollout(make_predictor()), torch.rand(1, 1, 1, 7)
    tokens, states, past = make_inputs(1, 3)
    expected, _ = rollout.imagine(rollout.remember(tokens, states, past), actions)
    for frame in range(3):
        changed = tokens.clone()
        changed[:, 12 * frame] = normalise(torch.randn(1, 40))
        other, _ = rollout.imagine(rollout.remember(changed, states, past), actions)
        assert (other - expected).abs().max() > 1e-3


def test_a_memory_can_be_used_again() -> None:
    rollout, context = ACRollout(make_predictor()), make_inputs(1, 2)
    memory, actions = rollout.remember(*context), torch.rand(1, 2, 3, 7)
    first, _ = rollout.imagine(memory, actions)
    rollout.imagine(memory, torch.rand(1, 4, 4, 7))
    again, _ = rollout.imagine(memory, actions)
    assert torch.equal(first, again)


def test_gradients_equal_those_of_the_uncached_predictor() -> None:
    predictor, context = make_predictor(), make_inputs(1, 2)
    rollout = ACRollout(predictor)
    actions = torch.rand(1, 1, 3, 7, requires_grad=True)
    tokens, _ = rollout.imagine(rollout.remember(*context), actions)
    (gradient,) = torch.autograd.grad(tokens[..., 0].sum(), actions)
    plain, _ = from_scratch(predictor, *context, actions[0, 0])
    (expected,) = torch.autograd.grad(plain[..., 0].sum(), actions)
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not can_pack(make_predictor().bfloat16()), reason="torch without oneDNN")
@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_packed_blocks_are_the_blocks_to_the_rounding_of_bfloat16(name: str) -> None:
    exact = make_predictor(**VARIANTS[name])
    half = copy.deepcopy(exact).bfloat16()
    context, actions = make_inputs(2, 2), torch.rand(2, 5, 3, 7) - 0.5

    def imagine(rollout: ACRollout) -> Tensor:
        return rollout.imagine(rollout.remember(*context), actions)[0]

    expected = imagine(ACRollout(exact))
    plain_error = (imagine(ACRollout(half)) - expected).abs().mean()
    packed_error = (imagine(packed_rollout(half)) - expected).abs().mean()
    assert packed_error < max(1.5 * float(plain_error), 1e-3)


def test_a_predictor_in_single_precision_cannot_be_packed() -> None:
    assert not can_pack(make_predictor())


def test_what_does_not_fit_is_refused() -> None:
    rollout = ACRollout(make_predictor())
    tokens, states, past = make_inputs(2, 3)
    with pytest.raises(
        InvalidInputError, match=r"tokens have shape .* expected \[P, T \* 12, 40\]"
    ):
        rollout.remember(tokens[:, 1:], states, past)
    with pytest.raises(InvalidInputError, match="states have shape"):
        rollout.remember(tokens, states[:, 1:], past)
    with pytest.raises(InvalidInputError, match="actions have shape"):
        rollout.remember(tokens, states, states)
    memory = rollout.remember(tokens, states, past)
    with pytest.raises(InvalidInputError, match=r"expected \[2, S, H, 7\]"):
        rollout.imagine(memory, torch.zeros(1, 4, 1, 7))
    with pytest.raises(InvalidInputError, match="3 frames of context and 7 actions make 9"):
        rollout.imagine(memory, torch.zeros(2, 1, 7, 7))
