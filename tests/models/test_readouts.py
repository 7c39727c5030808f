"""Clips, long videos, the anticipated future, and surprise."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.config import MaskPredictorConfig, tiny
from models.errors import InvalidInputError
from models.mask_predictor import MaskPredictor
from models.poses import difference
from models.preprocess import preprocess_frames
from models.readouts import (
    encode_clip,
    encode_video,
    surprise,
    with_anticipated_tokens,
    z_scored,
)
from models.world_model import WorldModel


def random_frames(count: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (count, 40, 50, 3), dtype=torch.uint8)


def test_a_clip_is_encoded_as_a_whole(tiny_model: WorldModel) -> None:
    frames = random_frames(6)
    pixels = preprocess_frames(frames, (32, 32))
    expected = tiny_model.encoder(pixels.transpose(0, 1).unsqueeze(0))[0]
    tokens = encode_clip(tiny_model.encoder, frames)
    assert tokens.shape == (3 * 16, 48)
    torch.testing.assert_close(tokens, expected)


def test_a_single_frame_fills_a_tubelet(tiny_model: WorldModel) -> None:
    frame = random_frames(1)
    tokens = torch.nn.functional.layer_norm(encode_clip(tiny_model.encoder, frame), (48,))
    torch.testing.assert_close(tokens, tiny_model.encode(frame)[0])


@pytest.mark.parametrize("frames", [random_frames(3), torch.zeros(2, 40, 50, 4).byte()])
def test_clips_that_do_not_fit_are_refused(tiny_model: WorldModel, frames: Tensor) -> None:
    with pytest.raises(InvalidInputError):
        encode_clip(tiny_model.encoder, frames)


def test_a_video_is_encoded_chunk_by_chunk(tiny_model: WorldModel) -> None:
    frames = random_frames(11)
    chunks = list(encode_video(tiny_model.encoder, frames, chunk_frames=4))
    assert [len(chunk) for chunk in chunks] == [32, 32, 32]
    torch.testing.assert_close(chunks[1], encode_clip(tiny_model.encoder, frames[4:8]))
    padded = torch.cat([frames[8:], frames[-1:]])
    torch.testing.assert_close(chunks[2], encode_clip(tiny_model.encoder, padded))


def test_no_more_than_a_chunk_of_a_video_is_read_ahead(tiny_model: WorldModel) -> None:
    read = 0

    def endless() -> Iterator[Tensor]:
        nonlocal read
        while True:
            read += 1
            yield torch.zeros(40, 50, 3, dtype=torch.uint8)

    video = encode_video(tiny_model.encoder, endless(), chunk_frames=4)
    for chunks in range(1, 6):
        next(video)
        assert read == 4 * chunks


def test_chunks_that_split_a_tubelet_are_refused(tiny_model: WorldModel) -> None:
    for size in (0, 3):
        with pytest.raises(InvalidInputError, match=f"chunk_frames {size}"):
            next(encode_video(tiny_model.encoder, random_frames(4), chunk_frames=size))


def test_the_anticipated_tokens_are_predicted_at_their_time() -> None:
    torch.manual_seed(0)
    predictor = MaskPredictor(
        MaskPredictorConfig(
            grid_size=(4, 4), embed_dim=48, predictor_embed_dim=24, depth=1, num_heads=2
        )
    )
    tokens = torch.randn(2, 32, 48)
    together = with_anticipated_tokens(tiny().encoder, predictor, tokens, anticipation_s=1.0)
    # One second at 8 frames/s is four tubelets after the two of the clip.
    seen, future = (ids.expand(2, -1) for ids in (torch.arange(32), torch.arange(96, 112)))
    assert torch.equal(together[:, :32], tokens)
    torch.testing.assert_close(together[:, 32:], predictor(tokens, [seen], [future], mask_index=1))


# Surprise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [1, 3])
def test_surprise_is_the_error_of_every_prediction(tiny_model: WorldModel, context: int) -> None:
    frames, states = random_frames(5), torch.rand(5, 7) * 0.3
    tokens, actions = tiny_model.encode(frames), difference(states[:-1], states[1:])
    found = surprise(tiny_model, frames, states, context)
    for step in range(4):
        past = slice(max(0, step + 1 - context), step + 1)
        predicted = tiny_model.step(
            tokens[past].reshape(1, -1, 48), actions[None, past], states[None, past]
        )
        expected = (predicted[0] - tokens[step + 1]).abs().mean()
        torch.testing.assert_close(found.error[step], expected)
    torch.testing.assert_close(found.z_score.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.z_score.std(correction=0), torch.tensor(1.0))


def test_the_step_that_breaks_the_pattern_stands_out() -> None:
    error = torch.tensor([0.1, 0.11, 0.1, 0.9, 0.1, 0.12])
    assert int(z_scored(error).z_score.argmax()) == 3


def test_steps_that_are_all_alike_surprise_nobody() -> None:
    assert torch.equal(z_scored(torch.full((4,), 0.3)).z_score, torch.zeros(4))


def test_episodes_that_do_not_fit_are_refused(tiny_model: WorldModel) -> None:
    for frames, states, context in ((1, 1, 1), (3, 2, 1), (3, 3, 0)):
        with pytest.raises(InvalidInputError, match="T >= 2"):
            surprise(tiny_model, random_frames(frames), torch.zeros(states, 7), context)
