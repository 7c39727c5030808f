"""The predictor with what is minimised, as the training loop calls it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from training.ac_losses import imagine, loss_terms
from training.batches import Batch
from training.episodes import PixelWindows, Windows
from training.errors import ConfigurationError
from training.latents import FrameEncoder
from training.posttrain_config import ACLossConfig


@dataclass(frozen=True)
class Imagination(Batch):
    """A question to the network outside of training: where do actions lead?

    Attributes:
        first: Tokens of the first frame `[B, N, D]`.
        state: The first state `[B, 7]`.
        actions: Actions `[B, K, 7]`.
    """

    first: Tensor
    state: Tensor
    actions: Tensor


class PosttrainNetwork(nn.Module):
    """The predictor with its loss; the frozen encoder stands beside it and is no part of its state.

    Args:
        predictor: What is trained.
        loss: What is minimised.
        encoder: For windows that come as frames.
    """

    def __init__(
        self, predictor: ACPredictor, loss: ACLossConfig, encoder: FrameEncoder | None
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self._loss = loss
        self._encoder = encoder

    def forward(
        self, batch: Windows | PixelWindows | Imagination
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, or imagined tokens `[B, K, N, D]` and nothing."""
        if isinstance(batch, Imagination):
            return imagine(self.predictor, batch.first, batch.state, batch.actions), {}
        windows = self.encoded(batch)
        terms = loss_terms(
            self.predictor,
            windows,
            context_frames=self._loss.context_frames,
            rollout_steps=self._loss.rollout_steps if batch.with_rollout else 0,
            states=self._loss.states,
            context=self._loss.context,
            exponent=self._loss.exponent,
        )
        values = {"teacher_forcing": terms.teacher_forcing}
        if terms.rollout is not None:
            values["rollout"] = terms.rollout
        return terms.total(self._loss.rollout_weight), values

    def encoded(self, batch: Windows | PixelWindows) -> Windows:
        """Return a batch with float32 tokens, encoded where it is not."""
        if isinstance(batch, PixelWindows):
            if self._encoder is None:
                raise ConfigurationError("these windows are frames, and there is no encoder")
            return batch.encoded(self._encoder)
        return replace(batch, tokens=batch.tokens.float())
