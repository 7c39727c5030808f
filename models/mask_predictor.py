"""The pretraining predictor: fill in the tokens of hidden regions (arXiv 2506.09985, section 2.1).

Letters in shapes: B samples, K visible tokens, M hidden tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.config import MaskPredictorConfig
from models.errors import InvalidInputError
from models.layers import initialise, make_blocks, run_blocks
from models.rope import grid_rotary
from models.token_masks import stack_masks


class MaskPredictor(nn.Module):
    """Predict the tokens of hidden patches from those of visible ones.

    Attributes:
        checkpoint_activations: Recompute the blocks in the backward pass instead of keeping what
            they computed; less memory, more time, the same gradients.
    """

    def __init__(self, config: MaskPredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        width = config.predictor_embed_dim
        self.predictor_embed = nn.Linear(config.embed_dim, width)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, width)) for _ in range(config.num_mask_tokens)
        )
        self.predictor_blocks = make_blocks(config)
        self.predictor_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.predictor_proj = nn.Linear(width, config.embed_dim)
        initialise(self)

    def forward(
        self,
        context: Tensor,
        context_masks: Sequence[Tensor],
        target_masks: Sequence[Tensor],
        mask_index: int = 1,
        grid_size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Predict hidden tokens.

        Args:
            context: Encoded visible tokens `[B, K, D]`, as the encoder returns them for
                `context_masks`.
            context_masks: Ids of the visible tokens, int64 `[B, K]` in all.
            target_masks: Ids of the tokens to predict, int64 `[B, M]` in all.
            mask_index: Which learned placeholder stands for them, modulo their number. The
                reference uses 1 where it does not say.
            grid_size: Rows and columns of patches, where they are not the configured ones.

        Returns:
            Predicted tokens `[B, M, D]`, not normalised, in the order of `target_masks`.

        Raises:
            InvalidInputError: Tokens and masks do not belong to each other or to the network.
        """
        return self.predict_all(context, context_masks, target_masks, mask_index, grid_size)[1]

    def predict_all(
        self,
        context: Tensor,
        context_masks: Sequence[Tensor],
        target_masks: Sequence[Tensor],
        mask_index: int = 1,
        grid_size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict visible and hidden tokens: the dense prediction of arXiv 2603.14482.

        Args:
            context: As in `forward`, as for the rest.
            context_masks: Ids of the visible tokens.
            target_masks: Ids of the hidden tokens.
            mask_index: Which placeholder.
            grid_size: Rows and columns.

        Returns:
            Predictions of the visible tokens `[B, K, D]` and of the hidden ones `[B, M, D]`.

        Raises:
            InvalidInputError: As in `forward`.
        """
        targets = stack_masks("target_masks", target_masks, len(context))
        visible = stack_masks("context_masks", context_masks, len(context))
        if context.shape != (*visible.shape, self.config.embed_dim):
            raise InvalidInputError(
                f"context has shape {list(context.shape)}; its masks need "
                f"{[*visible.shape, self.config.embed_dim]}"
            )
        ids = torch.cat([visible, targets], dim=1)
        x: Tensor = self.predictor_embed(context)
        placeholder = self.mask_tokens[mask_index % len(self.mask_tokens)].to(x.dtype)
        x = torch.cat([x, placeholder.expand(*targets.shape, -1)], dim=1)

        # Attention does not care about the order of tokens, only about their positions; the
        # reference sorts by position and back, which leaves the result as it is.
        rows, columns = grid_size or self.config.grid_size
        frames = int(ids.max()) // (rows * columns) + 1
        rotary = grid_rotary(
            frames, rows, columns, self.config.head_dim, x.dtype, x.device, self.config.rope
        ).select(ids)
        x = run_blocks(
            self.predictor_blocks, x, rotary, checkpoint_activations=self.checkpoint_activations
        )

        predicted: Tensor = self.predictor_proj(self.predictor_norm(x))
        return predicted[:, : visible.shape[1]], predicted[:, visible.shape[1] :]
