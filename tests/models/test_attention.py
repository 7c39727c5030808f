"""Both ways to compute attention are the same attention."""

import pytest
import torch

from models import layers
from models.ac_predictor import frame_causal_mask


@pytest.mark.parametrize("is_causal", [False, True])
def test_short_and_long_sequences_are_computed_alike(
    monkeypatch: pytest.MonkeyPatch, is_causal: bool
) -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    allowed = frame_causal_mask(2, 5, torch.device("cpu")) if is_causal else None
    short = layers.attend(q, k, v, allowed)
    monkeypatch.setattr(layers, "_SHORT_SEQUENCE", 0)
    torch.testing.assert_close(layers.attend(q, k, v, allowed), short)
