"""The pretraining predictor against the reference."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.checkpoint import load_strictly, published_state
from models.config import MaskPredictorConfig
from models.errors import InvalidInputError
from models.mask_predictor import MaskPredictor
from models.world_model import WorldModel


def make_predictor() -> MaskPredictor:
    torch.manual_seed(0)
    return MaskPredictor(
        MaskPredictorConfig(
            grid_size=(4, 4),
            embed_dim=128,
            predictor_embed_dim=96,
            depth=2,
            num_heads=2,
            num_mask_tokens=3,
        )
    )


def test_predictions_and_loss_are_the_references(
    golden_model: WorldModel, mask_vectors: dict[str, Any]
) -> None:
    predictor = make_predictor()
    state = published_state(
        {"predictor": mask_vectors["state_dict"]}, "predictor", "mask_predictor.pt"
    )
    load_strictly(predictor, state, "mask_predictor.pt")
    keep, hidden = mask_vectors["context_ids"], mask_vectors["target_ids"]

    context = golden_model.encoder(mask_vectors["clip"], masks=[keep])
    torch.testing.assert_close(context, mask_vectors["context_tokens"], atol=1e-4, rtol=0)
    predicted = predictor(context, [keep], [hidden])
    torch.testing.assert_close(predicted, mask_vectors["pred"], atol=1e-4, rtol=0)

    tokens = golden_model.encoder(mask_vectors["clip"])
    goal = F.layer_norm(tokens, tokens.shape[-1:])
    goal = goal.gather(1, hidden.unsqueeze(-1).expand(-1, -1, goal.shape[-1]))
    torch.testing.assert_close(
        F.l1_loss(predicted, goal), mask_vectors["loss_l1"], atol=1e-5, rtol=0
    )


def test_the_order_of_visible_tokens_does_not_matter() -> None:
    predictor = make_predictor()
    ids = torch.tensor([[9, 2, 30, 17]])
    context, targets = torch.randn(1, 4, 128), [torch.tensor([[1, 5]])]
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        predictor(context, [ids], targets), predictor(context[:, order], [ids[:, order]], targets)
    )


def test_targets_come_back_in_the_order_they_were_asked() -> None:
    predictor = make_predictor()
    context, keep = torch.randn(1, 2, 128), [torch.tensor([[0, 3]])]
    forward = predictor(context, keep, [torch.tensor([[4, 20, 7]])])
    backward = predictor(context, keep, [torch.tensor([[7, 20, 4]])])
    torch.testing.assert_close(forward, backward.flip(1))


@pytest.mark.parametrize("index", [0, 2])
def test_the_mask_index_chooses_a_placeholder_modulo_their_number(index: int) -> None:
    predictor = make_predictor()
    with torch.no_grad():
        for number, placeholder in enumerate(predictor.mask_tokens):
            placeholder.fill_(float(number))
    context, keep, hidden = torch.randn(1, 2, 128), [torch.tensor([[0, 3]])], [torch.tensor([[4]])]
    chosen = predictor(context, keep, hidden, mask_index=index)
    assert torch.equal(chosen, predictor(context, keep, hidden, mask_index=index + 3))
    assert not torch.equal(chosen, predictor(context, keep, hidden, mask_index=1))


def test_tokens_and_masks_that_do_not_belong_together_are_refused() -> None:
    predictor, context = make_predictor(), torch.randn(2, 3, 128)
    keep, hidden = torch.tensor([[0, 3, 5]] * 2), torch.tensor([[4, 6]] * 2)
    with pytest.raises(InvalidInputError, match=r"context has shape \[2, 3, 127\]"):
        predictor(context[..., 1:], [keep], [hidden])
    with pytest.raises(InvalidInputError, match=r"its masks need \[2, 2, 128\]"):
        predictor(context, [keep[:, 1:]], [hidden])
    with pytest.raises(InvalidInputError, match=r"target_masks .* 2 rows"):
        predictor(context, [keep], [hidden[:1]])
    with pytest.raises(InvalidInputError, match=r"float32.* expected int64"):
        predictor(context, [keep], [hidden.float()])


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for is_saved in (False, True):
        predictor = make_predictor()
        predictor.checkpoint_activations = is_saved
        ids = torch.tensor([[0, 3, 5]]), torch.tensor([[4, 6]])
        predictor(torch.ones(1, 3, 128), ids[:1], ids[1:]).square().sum().backward()
        gradients.append([weight.grad for weight in predictor.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
