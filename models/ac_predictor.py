"""The action-conditioned predictor of V-JEPA 2-AC (arXiv 2506.09985, section 3.1).

Every frame is a sequence of tokens: its action, its state, its camera (optional), its patches. All
tokens of a frame see all tokens of that frame and of earlier ones, and the patches that come out at
frame t are the prediction for frame t + 1.

Letters in shapes: B samples, T frames, N patches per frame, D channels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from models.config import ACPredictorConfig
from models.errors import InvalidInputError
from models.layers import initialise, make_blocks, run_blocks
from models.rope import conditioned_rotary


class ACPredictor(nn.Module):
    """Predict the tokens of the next frame from frames, states and actions so far.

    Attributes:
        checkpoint_activations: Recompute the blocks in the backward pass instead of keeping what
            they computed; less memory, more time, the same gradients.
    """

    def __init__(self, config: ACPredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        width = config.predictor_embed_dim
        self.predictor_embed = nn.Linear(config.embed_dim, width)
        self.action_encoder = nn.Linear(config.action_dim, width)
        if config.use_state:
            self.state_encoder = nn.Linear(config.action_dim, width)
        if config.use_state or config.use_extrinsics:
            # Published checkpoints carry this layer whether or not it is used; those without a
            # state token (jepa-wms) do not.
            self.extrinsics_encoder = nn.Linear(config.action_dim - 1, width)
        self.predictor_blocks = make_blocks(config)
        self.predictor_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.predictor_proj = nn.Linear(width, config.embed_dim)
        initialise(self)
        if config.residual:  # start by predicting that nothing changes
            nn.init.zeros_(self.predictor_proj.weight)

    def forward(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor | None = None,
        extrinsics: Tensor | None = None,
    ) -> Tensor:
        """Predict every next frame from the frames up to it.

        Args:
            tokens: Layer-normed tokens `[B, T * N, D]`.
            actions: What is done from each frame on, `[B, T, 7]` [m, rad, closedness].
            states: Pose at each frame, `[B, T, 7]` [m, rad, closedness]; where configured.
            extrinsics: Camera pose at each frame, `[B, T, 6]` [m, rad]; where configured.

        Returns:
            Predicted tokens `[B, T * N, D]`, not yet layer-normed.

        Raises:
            InvalidInputError: Shapes do not fit each other or the configuration.
        """
        frames = self._check(tokens, actions, states, extrinsics)
        condition = self._encode_conditions(actions, states, extrinsics)
        patches: Tensor = self.predictor_embed(tokens)
        # [B, T, conditions + N, width] -> [B, T * (conditions + N), width]
        patches = patches.view(*actions.shape[:2], -1, patches.shape[-1])
        x = torch.cat([condition, patches], dim=2).flatten(1, 2)

        rotary = conditioned_rotary(
            frames,
            *self.config.grid_size,
            condition.shape[2],
            self.config.head_dim,
            x.dtype,
            x.device,
            self.config.rope,
        )
        allowed = frame_causal_mask(frames, x.shape[1] // frames, x.device) if frames > 1 else None
        x = run_blocks(
            self.predictor_blocks,
            x,
            rotary,
            allowed,
            checkpoint_activations=self.checkpoint_activations,
        )

        x = x.view(*actions.shape[:2], -1, x.shape[-1])[:, :, condition.shape[2] :].flatten(1, 2)
        predicted: Tensor = self.predictor_proj(self.predictor_norm(x))
        return tokens + predicted if self.config.residual else predicted

    def _encode_conditions(
        self, actions: Tensor, states: Tensor | None, extrinsics: Tensor | None
    ) -> Tensor:
        """Return the tokens that go before the patches of each frame, `[B, T, conditions, width]`."""
        conditions = [self.action_encoder(actions)]
        if states is not None:
            conditions.append(self.state_encoder(states))
        if extrinsics is not None:
            conditions.append(self.extrinsics_encoder(extrinsics))
        return torch.stack(conditions, dim=2)

    def _check(
        self,
        tokens: Tensor,
        actions: Tensor,
        states: Tensor | None,
        extrinsics: Tensor | None,
    ) -> int:
        """Return the number of frames, or refuse what does not fit together."""
        config = self.config
        per_frame = config.tokens_per_frame
        if tokens.ndim != 3 or tokens.shape[2] != config.embed_dim or tokens.shape[1] % per_frame:
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; expected [B, T * {per_frame}, "
                f"{config.embed_dim}]"
            )
        batch, frames = tokens.shape[0], tokens.shape[1] // per_frame
        if not 1 <= frames <= config.max_frames:
            raise InvalidInputError(
                f"{frames} frames of context; this predictor takes 1 to {config.max_frames}"
            )
        inputs: dict[str, tuple[Tensor, int]] = {"actions": (actions, config.action_dim)}
        optional: dict[str, tuple[Tensor | None, int, bool]] = {
            "states": (states, config.action_dim, config.use_state),
            "extrinsics": (extrinsics, config.action_dim - 1, config.use_extrinsics),
        }
        for name, (given, dim, is_used) in optional.items():
            if is_used != (given is not None):
                raise InvalidInputError(
                    f"this predictor {'needs' if is_used else 'takes no'} {name}"
                )
            if given is not None:
                inputs[name] = (given, dim)
        for name, (value, dim) in inputs.items():
            if value.shape != (batch, frames, dim):
                raise InvalidInputError(
                    f"{name} have shape {list(value.shape)}; {frames} frames need "
                    f"[{batch}, {frames}, {dim}]"
                )
        return frames


@lru_cache(maxsize=16)
def frame_causal_mask(frames: int, tokens_per_frame: int, device: torch.device) -> Tensor:
    """Return who may see whom, bool `[N, N]`: all tokens of the same and of earlier frames."""
    with torch.inference_mode(mode=False):
        frame = torch.arange(frames, device=device).repeat_interleave(tokens_per_frame)
        return frame.unsqueeze(1) >= frame.unsqueeze(0)
