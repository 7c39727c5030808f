"""The action-conditioned predictor against the reference, and its laws."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.ac_predictor import ACPredictor, frame_causal_mask
from models.config import ACPredictorConfig
from models.errors import InvalidInputError
from models.world_model import WorldModel, normalise

BATCH, FRAMES, PATCHES, CHANNELS = 2, 3, 6, 20


def make_predictor(
    *, residual: bool = False, use_extrinsics: bool = False, use_state: bool = True
) -> ACPredictor:
    torch.manual_seed(0)
    return ACPredictor(
        ACPredictorConfig(
            grid_size=(2, 3),
            embed_dim=CHANNELS,
            predictor_embed_dim=24,
            depth=2,
            num_heads=2,
            residual=residual,
            use_extrinsics=use_extrinsics,
            use_state=use_state,
        )
    )


def make_inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return (
        torch.randn(BATCH, FRAMES * PATCHES, CHANNELS),
        torch.randn(BATCH, FRAMES, 7),
        torch.randn(BATCH, FRAMES, 7),
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_every_context_length_gives_the_reference_tokens(
    golden_model: WorldModel, ac_vectors: dict[str, Any], frames: int
) -> None:
    predicted = golden_model.predictor(
        ac_vectors["tokens"][:, : frames * 16],
        ac_vectors["actions"][:, :frames],
        ac_vectors["states"][:, :frames],
    )
    torch.testing.assert_close(predicted, ac_vectors[f"out_T{frames}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("changed", [0, 1, 2])
@pytest.mark.parametrize("position", [1, 2])
def test_a_frame_does_not_see_what_comes_after_it(position: int, changed: int) -> None:
    predictor = make_predictor()
    inputs = make_inputs()
    before = predictor(*inputs).view(BATCH, FRAMES, PATCHES, CHANNELS)
    inputs[changed].view(BATCH, FRAMES, -1)[:, position] += 1.0
    after = predictor(*inputs).view(BATCH, FRAMES, PATCHES, CHANNELS)
    torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-6, rtol=0)
    assert not torch.allclose(after[:, position:], before[:, position:], atol=1e-4)


def test_the_first_frame_alone_is_the_first_frame_of_many() -> None:
    predictor = make_predictor()
    tokens, actions, states = make_inputs()
    alone = predictor(tokens[:, :PATCHES], actions[:, :1], states[:, :1])
    among = predictor(tokens, actions, states)[:, :PATCHES]
    torch.testing.assert_close(alone, among, atol=1e-6, rtol=1e-5)


def test_the_mask_lets_whole_frames_see_each_other() -> None:
    mask = frame_causal_mask(2, 2, torch.device("cpu"))
    assert mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_a_fresh_residual_predictor_predicts_that_nothing_changes() -> None:
    tokens, actions, states = make_inputs()
    assert torch.equal(make_predictor(residual=True)(tokens, actions, states), tokens)


def test_residual_and_plain_predictors_have_the_same_weights() -> None:
    plain, residual = make_predictor(), make_predictor(residual=True)
    residual.load_state_dict(plain.state_dict())
    tokens, actions, states = make_inputs()
    torch.testing.assert_close(
        residual(tokens, actions, states), tokens + plain(tokens, actions, states)
    )


def test_extrinsics_change_the_prediction_where_they_are_used() -> None:
    predictor = make_predictor(use_extrinsics=True)
    inputs = make_inputs()
    cameras = torch.randn(2, BATCH, FRAMES, 6)
    first, second = (predictor(*inputs, extrinsics=camera) for camera in cameras)
    assert first.shape == inputs[0].shape
    assert not torch.allclose(first, second)


def test_the_extrinsics_layer_exists_even_where_it_is_not_used() -> None:
    assert make_predictor().extrinsics_encoder.weight.shape == (24, 6)


def test_gradients_reach_every_weight_that_is_used() -> None:
    predictor = make_predictor()
    predictor(*make_inputs()).square().sum().backward()
    unused = [name for name, weight in predictor.named_parameters() if weight.grad is None]
    assert unused == ["extrinsics_encoder.weight", "extrinsics_encoder.bias"]


def test_inputs_that_do_not_fit_each_other_are_refused() -> None:
    predictor = make_predictor()
    tokens, actions, states = make_inputs()
    with pytest.raises(InvalidInputError, match="tokens have shape"):
        predictor(tokens[:, :-1], actions, states)
    with pytest.raises(InvalidInputError, match="tokens have shape"):
        predictor(tokens[..., :-1], actions, states)
    with pytest.raises(InvalidInputError, match="actions have shape"):
        predictor(tokens, actions[:, :-1], states)
    with pytest.raises(InvalidInputError, match="states have shape"):
        predictor(tokens, actions, states[..., :6])
    with pytest.raises(InvalidInputError, match="takes no extrinsics"):
        predictor(tokens, actions, states, torch.zeros(BATCH, FRAMES, 6))
    with pytest.raises(InvalidInputError, match="needs extrinsics"):
        make_predictor(use_extrinsics=True)(tokens, actions, states)


# Without a state token --------------------------------------------------------------------------


def test_without_a_state_token_the_pose_is_neither_known_nor_taken() -> None:
    predictor = make_predictor(use_state=False)
    tokens, actions, states = make_inputs()
    assert predictor(tokens, actions).shape == tokens.shape
    names = set(predictor.state_dict())
    assert not any(name.startswith(("state_encoder", "extrinsics_encoder")) for name in names)
    with pytest.raises(InvalidInputError, match="takes no states"):
        predictor(tokens, actions, states)
    with pytest.raises(InvalidInputError, match="needs states"):
        make_predictor()(tokens, actions)


@pytest.mark.parametrize(("use_state", "use_extrinsics"), [(False, False), (False, True)])
def test_every_layout_is_frame_causal(use_state: bool, use_extrinsics: bool) -> None:
    predictor = make_predictor(use_state=use_state, use_extrinsics=use_extrinsics)
    tokens, actions, _ = make_inputs()
    cameras = torch.randn(BATCH, FRAMES, 6) if use_extrinsics else None
    before = predictor(tokens, actions, None, cameras)
    actions[:, 1] += 1.0
    after = predictor(tokens, actions, None, cameras)
    torch.testing.assert_close(after[:, :PATCHES], before[:, :PATCHES], atol=1e-6, rtol=0)
    assert not torch.allclose(after[:, PATCHES:], before[:, PATCHES:], atol=1e-4)


def test_a_state_token_that_nobody_can_see_changes_nothing(golden_model: WorldModel) -> None:
    """The layouts share everything but one token: hide it, and they agree."""
    published = golden_model.predictor
    config = published.config.model_copy(update={"use_state": False})
    fixed = ACPredictor(config)
    weights = published.state_dict()
    fixed.load_state_dict({name: weights[name] for name in fixed.state_dict()})
    tokens, actions = torch.randn(1, 16, 128), torch.randn(1, 1, 7)

    visible = torch.ones(18, 18, dtype=torch.bool)
    visible[:, 1] = False  # action, state, patches
    hooks = [
        block.register_forward_pre_hook(lambda _module, inputs: (*inputs[:2], visible))
        for block in published.predictor_blocks
    ]
    try:
        expected = published(tokens, actions, torch.randn(1, 1, 7))
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(fixed(tokens, actions), expected, atol=1e-5, rtol=0)


def test_a_context_longer_than_supported_is_refused() -> None:
    predictor = make_predictor()
    frames = predictor.config.max_frames + 1
    with pytest.raises(InvalidInputError, match=r"33 frames of context; .* 1 to 32"):
        predictor(
            torch.zeros(1, frames * PATCHES, CHANNELS),
            torch.zeros(1, frames, 7),
            torch.zeros(1, frames, 7),
        )


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for is_saved in (False, True):
        predictor = make_predictor(use_extrinsics=True)
        predictor.checkpoint_activations = is_saved
        predictor(*make_inputs(), torch.ones(BATCH, FRAMES, 6)).square().sum().backward()
        gradients.append([weight.grad for weight in predictor.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


# The losses of post-training (arXiv 2506.09985, equations 2 to 4) ---------------------------------


def test_the_teacher_forcing_loss_is_the_references(
    golden_model: WorldModel, ac_vectors: dict[str, Any]
) -> None:
    tokens, actions, states = (ac_vectors[name] for name in ("tokens", "actions", "states"))
    predicted = normalise(golden_model.predictor(tokens[:, :-16], actions[:, :3], states[:, :3]))
    loss = (predicted - tokens[:, 16:]).abs().mean()
    torch.testing.assert_close(loss, ac_vectors["loss_teacher_forcing"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [2, 3])
def test_the_rollout_loss_is_the_references(
    golden_model: WorldModel, ac_vectors: dict[str, Any], steps: int
) -> None:
    tokens, actions, states = (ac_vectors[name] for name in ("tokens", "actions", "states"))
    frames = [tokens[:, :16]]
    for step in range(1, steps + 1):  # every pose is the true one, as in training
        frames.append(golden_model.step(torch.cat(frames, 1), actions[:, :step], states[:, :step]))
    loss = (torch.cat(frames[1:], 1) - tokens[:, 16 : 16 * (steps + 1)]).abs().mean()
    torch.testing.assert_close(loss, ac_vectors[f"loss_rollout_{steps}"], atol=1e-4, rtol=0)
