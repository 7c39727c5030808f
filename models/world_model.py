"""The world model that planning asks: frames to tokens, and tokens with actions to tokens to come.

Letters in shapes: B samples, T frames of context, H actions ahead (the horizon), N tokens per
frame, D channels. All tokens are layer-normed without learned scale, which makes every channel
count alike in the planner's distance (arXiv 2506.09985, section 3.2).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from models.config import (
    ACPredictorConfig,
    EncoderConfig,
    TimmEncoderConfig,
    WorldModelConfig,
)
from models.encoders import Encoder, build_encoder, encode_images
from models.errors import (
    ConfigurationError,
    InvalidInputError,
    RopeMismatchError,
    require_finite,
)
from models.layers import normalise
from models.preprocess import preprocess_frames
from models.rollout import ACRollout

__all__ = ["WorldModel", "normalise"]


class WorldModel(nn.Module):
    """An encoder and an action-conditioned predictor that belong together.

    Args:
        config: The configuration of both, and the robot motion they were made for.
        encoder: The encoder, frozen or about to be; randomly initialised by default.
        predictor: The predictor; randomly initialised by default.

    Raises:
        InvalidInputError: The predictor needs camera extrinsics.
        RopeMismatchError: A network rotates otherwise than the configuration says.
        ConfigurationError: A network is not the configured one.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        encoder: Encoder | None = None,
        predictor: ACPredictor | None = None,
    ) -> None:
        super().__init__()
        if config.predictor.use_extrinsics:
            raise InvalidInputError("planning does not know camera extrinsics; use a model without")
        self.config = config
        self.encoder = encoder if encoder is not None else build_encoder(config.encoder)
        self.predictor = predictor if predictor is not None else ACPredictor(config.predictor)
        _check_configured("encoder", self.encoder.config, config.encoder)
        _check_configured("predictor", self.predictor.config, config.predictor)

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of a frame, N."""
        return self.config.encoder.tokens_per_frame

    @property
    def embed_dim(self) -> int:
        """Channels of a token, D."""
        return self.config.encoder.embed_dim

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width [px] that frames are brought to."""
        return self.config.encoder.img_size

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames one by one, each repeated to fill what the encoder takes as an image.

        Args:
            frames: uint8 RGB `[B, H, W, 3]` of any size, on any device; see `preprocess_frames` for
                the geometry.

        Returns:
            Layer-normed tokens `[B, N, D]`, float32.

        Raises:
            InvalidInputError: The frames are not uint8 `[B, H, W, 3]`.
        """
        pixels = preprocess_frames(
            frames.to(self._weight.device), self.frame_size, self.config.frame_geometry
        )
        return encode_images(self.encoder, pixels.to(self._weight.dtype))

    def step(self, tokens: Tensor, actions: Tensor, states: Tensor) -> Tensor:
        """Predict the frame after the last one.

        Args:
            tokens: Layer-normed tokens of the frames so far `[B, T * N, D]`.
            actions: What is done from each frame on, `[B, T, 7]` [m, rad, closedness].
            states: Pose at each frame, `[B, T, 7]` [m, rad, closedness].

        Returns:
            Layer-normed tokens `[B, N, D]`, float32.

        Raises:
            InvalidInputError: Shapes do not fit, or a number is not finite.
        """
        require_finite(actions=actions, states=states)
        return self._step(tokens, actions, states)

    def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine where actions lead, each prediction seeing all frames, actions and poses before it.

        Args:
            tokens: Layer-normed tokens of the current frame `[B, N, D]`.
            state: Pose at the current frame `[B, 7]` [m, rad, closedness].
            actions: Actions to take, `[B, H, 7]` [m, rad, closedness].

        Returns:
            Layer-normed predicted tokens `[B, H, N, D]`, float32, and predicted poses `[B, H, 7]`.

        Raises:
            InvalidInputError: Shapes do not fit, or a number is not finite.
        """
        if actions.ndim != 3 or state.ndim != 2 or actions.shape[1] == 0:
            raise InvalidInputError(
                f"state has shape {list(state.shape)} and actions {list(actions.shape)}; expected "
                "[B, 7] and [B, H, 7] with H >= 1"
            )
        require_finite(actions=actions, state=state)
        unrolled = ACRollout(self.predictor)
        memory = unrolled.remember(tokens, state.unsqueeze(1), actions[:, :0])
        predicted, states = unrolled.imagine(memory, actions.unsqueeze(1))
        return predicted.squeeze(1), states.squeeze(1)

    def _step(self, tokens: Tensor, actions: Tensor, states: Tensor) -> Tensor:
        dtype = self._weight.dtype
        known = states.to(dtype) if self.config.predictor.use_state else None
        predicted = self.predictor(tokens.to(dtype), actions.to(dtype), known)
        return normalise(predicted[:, -self.tokens_per_frame :])

    @property
    def _weight(self) -> Tensor:
        return self.predictor.predictor_proj.weight


def _check_configured(
    name: str,
    found: EncoderConfig | TimmEncoderConfig | ACPredictorConfig,
    expected: EncoderConfig | TimmEncoderConfig | ACPredictorConfig,
) -> None:
    if found.rope != expected.rope:
        raise RopeMismatchError(
            f"the {name} rotates with flavour {found.rope!r}, the configuration says "
            f"{expected.rope!r}; weights of one flavour mean nothing in the other"
        )
    if found != expected:
        raise ConfigurationError(f"the {name} was built as {found}; configured is {expected}")
