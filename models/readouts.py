"""What representations are read for: clips, long videos, the near future, and surprise.

Letters in shapes: B samples, T frames, H and W pixels, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from models.config import EncoderConfig, FrameGeometry
from models.encoders import Encoder
from models.errors import InvalidInputError
from models.mask_predictor import MaskPredictor
from models.poses import difference
from models.preprocess import check_frames, preprocess_frames
from models.world_model import WorldModel

_STEADY = 1e-12  # smaller spreads of the error are rounding, not surprise


@torch.no_grad()
def encode_clip(
    encoder: Encoder, frames: Tensor, geometry: FrameGeometry = "centre_square"
) -> Tensor:
    """Encode the frames of one clip together.

    Args:
        encoder: The encoder, in evaluation mode.
        frames: uint8 RGB `[T, H, W, 3]`, T a multiple of the encoder's tubelet (or 1).
        geometry: How frames become what the encoder takes.

    Returns:
        Tokens after the encoder's final norm `[N, D]`, on the encoder's device and in its type.

    Raises:
        InvalidInputError: The frames are not uint8 `[T, H, W, 3]`, or do not fill tubelets.
    """
    check_frames(frames)
    weight = next(encoder.parameters())
    pixels = preprocess_frames(frames.to(weight.device), encoder.config.img_size, geometry)
    clip = pixels.to(weight.dtype).transpose(0, 1).unsqueeze(0)
    if clip.shape[2] == 1:
        clip = clip.expand(-1, -1, encoder.config.frames_per_image, -1, -1)
    tokens: Tensor = encoder(clip)
    return tokens[0]


def encode_video(
    encoder: Encoder,
    frames: Iterable[Tensor],
    chunk_frames: int = 64,
    geometry: FrameGeometry = "centre_square",
) -> Iterator[Tensor]:
    """Encode a video of any length, holding one chunk of it in memory at a time.

    Every chunk is a clip of its own: tokens do not see other chunks. A last chunk that does not
    fill a tubelet repeats its last frame.

    Args:
        encoder: The encoder, in evaluation mode.
        frames: uint8 RGB frames `[H, W, 3]` one after another: a tensor, or a reader's iterator.
        chunk_frames: Frames per chunk; the published encoders learned from 64.
        geometry: How frames become what the encoder takes.

    Yields:
        Tokens of one chunk `[N, D]`.

    Raises:
        InvalidInputError: A chunk does not divide into tubelets, or the frames are not uint8 RGB.
    """
    tubelet = encoder.config.tubelet_size
    if chunk_frames < 1 or chunk_frames % tubelet:
        raise InvalidInputError(
            f"chunk_frames {chunk_frames} is not a multiple of the tubelet, {tubelet} frames"
        )
    rest = iter(frames)
    while chunk := list(islice(rest, chunk_frames)):
        chunk += [chunk[-1]] * (-len(chunk) % tubelet)
        yield encode_clip(encoder, torch.stack(chunk), geometry)


@torch.no_grad()
def with_anticipated_tokens(
    encoder_config: EncoderConfig,
    predictor: MaskPredictor,
    tokens: Tensor,
    anticipation_s: float,
    frames_per_second: float = 8.0,
) -> Tensor:
    """Append what the pretraining predictor expects to see some time after a clip (section 6.2).

    Args:
        encoder_config: Configuration of the encoder that made the tokens.
        predictor: The mask predictor that was trained with it.
        tokens: The clip's tokens `[B, N, D]`.
        anticipation_s: How long after the clip [s].
        frames_per_second: Rate of the clip's frames [1/s].

    Returns:
        The clip's tokens and those of one future tubelet `[B, N + tokens per frame, D]`.
    """
    per_frame = encoder_config.tokens_per_frame
    ahead = int(anticipation_s * frames_per_second / encoder_config.tubelet_size)
    batch, known = tokens.shape[:2]
    first = known + per_frame * ahead
    seen = torch.arange(known, device=tokens.device).expand(batch, -1)
    future = torch.arange(first, first + per_frame, device=tokens.device).expand(batch, -1)
    return torch.cat([tokens, predictor(tokens, [seen], [future])], dim=1)


class Surprise(NamedTuple):
    """How far each step of an episode went from its prediction.

    Attributes:
        error: Mean absolute difference of predicted and seen tokens, `[T - 1]`.
        z_score: The error in standard deviations from its mean over the episode, `[T - 1]`; zero
            where all errors are alike. Large positive steps are anomalies.
    """

    error: Tensor
    z_score: Tensor


@torch.no_grad()
def surprise(model: WorldModel, frames: Tensor, states: Tensor, context: int = 1) -> Surprise:
    """Measure at every step of an episode how badly the model predicted it.

    Args:
        model: The world model.
        frames: uint8 RGB `[T, H, W, 3]`, one control period apart; T at least 2.
        states: Pose at each frame `[T, 7]` [m, rad, closedness].
        context: How many past frames a prediction may see.

    Raises:
        InvalidInputError: There are fewer than two frames, poses do not belong to them, or the
            context is not positive.
    """
    steps = len(frames) - 1
    if steps < 1 or states.shape != (steps + 1, 7) or context < 1:
        raise InvalidInputError(
            f"{len(frames)} frames, states of shape {list(states.shape)} and a context of "
            f"{context}; expected [T >= 2] frames, [T, 7] and at least 1"
        )
    tokens = torch.cat([model.encode(frame.unsqueeze(0)) for frame in frames])
    states = states.to(tokens.device)
    actions = difference(states[:-1], states[1:])
    errors = []
    for now in range(steps):
        past = slice(max(0, now + 1 - context), now + 1)
        predicted = model.step(
            tokens[past].flatten(0, 1).unsqueeze(0),
            actions[past].unsqueeze(0),
            states[past].unsqueeze(0),
        )
        errors.append((predicted[0] - tokens[now + 1]).abs().mean())
    return z_scored(torch.stack(errors))


def z_scored(error: Tensor) -> Surprise:
    """Compare every error `[T]` with the others."""
    spread = error.std(correction=0)
    z_score = (error - error.mean()) / spread if spread > _STEADY else torch.zeros_like(error)
    return Surprise(error, z_score)
