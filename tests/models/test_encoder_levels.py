"""Multi-level outputs, recomputed activations, and encoders without rotary positions."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import load_encoder
from models.config import EncoderConfig
from models.encoder import VisionTransformer
from models.errors import InvalidInputError, RopeMismatchError
from models.sincos import sincos_positions, sincos_table


def make_encoder(**changes: object) -> VisionTransformer:
    torch.manual_seed(0)
    values = {"img_size": (16, 24), "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
    return VisionTransformer(
        EncoderConfig.model_validate({**values, "num_frames": 8, **changes})
    ).eval()


def random_clip(batch: int = 2, frames: int = 4) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, frames, 16, 24)


def test_the_last_level_is_the_output_and_all_are_normed_alike() -> None:
    encoder, clip = make_encoder(), random_clip()
    outputs: list[Tensor] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    levels = encoder.levels(clip, [0, 2, 3])
    assert torch.equal(levels[-1], encoder(clip))
    for level, index in zip(levels, [0, 2, 3], strict=True):
        assert torch.equal(level, encoder.norm(outputs[index]))


def test_levels_of_masked_clips_are_masked_too() -> None:
    encoder, mask = make_encoder(), torch.tensor([[0, 3, 7], [1, 2, 11]])
    levels = encoder.levels(random_clip(), [1, 3], masks=[mask])
    assert [level.shape for level in levels] == [(2, 3, 24), (2, 3, 24)]


@pytest.mark.parametrize("layers", [[], [4], [-1], [2, 1], [1, 1]])
def test_levels_that_do_not_exist_are_refused(layers: list[int]) -> None:
    with pytest.raises(InvalidInputError, match=r"out_layers.*\[0, 1, 2, 3\]"):
        make_encoder().levels(random_clip(), layers)


@pytest.mark.parametrize("attention", ["joint", "factorised"])
def test_recomputed_activations_give_the_same_gradients(attention: str) -> None:
    gradients = []
    for is_saved in (False, True):
        encoder = make_encoder(attention=attention).train()
        encoder.checkpoint_activations = is_saved
        encoder(random_clip()).square().sum().backward()
        gradients.append([weight.grad for weight in encoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_a_clip_with_numbers_that_are_not_finite_is_refused() -> None:
    clip = random_clip()
    clip[1, 2, 0, 3, 3] = float("nan")
    with pytest.raises(InvalidInputError, match="clip: 1 of 9216 numbers are not finite"):
        make_encoder()(clip)


def test_a_clip_of_integers_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        make_encoder()(torch.zeros(1, 3, 2, 16, 24, dtype=torch.uint8))


@pytest.mark.parametrize(
    "masks",
    [
        [],
        [torch.zeros(1, 3).long()],
        [torch.zeros(2, 3)],
        [torch.zeros(2, 0).long()],
        [torch.zeros(2, 3).long(), torch.zeros(2, 4).long()],
    ],
)
def test_masks_that_do_not_belong_to_the_clip_are_refused(masks: list[Tensor]) -> None:
    with pytest.raises(InvalidInputError, match=r"masks have shapes .* expected int64 \[B, K\]"):
        make_encoder()(random_clip(), masks=masks)


# Sine-cosine positions --------------------------------------------------------------------------


def test_the_table_tells_time_then_row_then_column() -> None:
    dim, position = 32, (2, 1, 3)
    entry = sincos_table(4, 2, 5, dim).view(4, 2, 5, dim)[position]
    expected: list[float] = []
    for place, channels in zip(position, (dim // 2, dim // 4, dim // 4), strict=True):
        angles = [place / 10_000 ** (i / (channels / 2)) for i in range(channels // 2)]
        expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    torch.testing.assert_close(entry, torch.tensor(expected))


def test_shorter_clips_take_the_first_positions_and_other_grids_are_interpolated() -> None:
    table = sincos_table(4, 2, 3, 16)
    assert torch.equal(sincos_positions((2, 2, 3), (4, 2, 3), 16), table[:12])
    wider = sincos_positions((4, 4, 6), (4, 2, 3), 16).view(4, 4, 6, 16)
    # Doubling a grid puts the average of four new places on the old one, away from the edges.
    assert wider.shape == (4, 4, 6, 16)
    torch.testing.assert_close(wider[:, :2].mean(1) + wider[:, 2:].mean(1), 2 * wider.mean(1))


def test_positions_are_added_before_tokens_are_dropped() -> None:
    encoder, clip = make_encoder(rope=None), random_clip()
    order = torch.stack([torch.randperm(12) for _ in range(2)])
    expected = encoder(clip).gather(1, order.unsqueeze(-1).expand(-1, -1, 24))
    torch.testing.assert_close(encoder(clip, masks=[order]), expected)


def test_positions_matter_and_are_no_weights() -> None:
    encoder = make_encoder(rope=None)
    assert "pos_embed" not in encoder.state_dict()
    constant = torch.ones(1, 3, 4, 16, 24)
    tokens = encoder(constant)[0]
    assert all(not torch.allclose(tokens[0], other, atol=1e-3) for other in tokens[1:])


def test_a_published_table_says_that_the_weights_do_not_rotate(tmp_path: Path) -> None:
    encoder = make_encoder(rope=None)
    state = {f"module.backbone.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"encoder": state}, tmp_path / "unsaid.pt")
    with pytest.raises(RopeMismatchError, match="says None"):
        load_encoder(tmp_path / "unsaid.pt", config=encoder.config)
    table = sincos_table(4, 2, 3, 24).unsqueeze(0)
    torch.save({"encoder": {**state, "module.backbone.pos_embed": table}}, tmp_path / "vit.pt")
    clip = random_clip()
    loaded = load_encoder(tmp_path / "vit.pt", config=encoder.config)
    torch.testing.assert_close(loaded(clip), encoder(clip))


def test_other_sizes_than_the_learned_one_are_encoded_with_interpolated_positions() -> None:
    assert make_encoder(rope=None)(torch.randn(1, 3, 12, 32, 16)).shape == (1, 6 * 4 * 2, 24)


# Factorised attention ---------------------------------------------------------------------------


def test_factorised_blocks_reach_their_frame_and_their_place_only() -> None:
    clip = random_clip(1, 6)
    changed = clip.clone()
    changed[:, :, 2:4, 8:, 16:] += 1.0  # the token of frame 1 in row 1, column 2
    for depth, reached in (
        (1, [(1, row, column) for row in range(2) for column in range(3)]),
        (2, [(time, row, column) for time in range(3) for row in range(2) for column in range(3)]),
    ):
        encoder = make_encoder(attention="factorised", depth=depth)
        difference = (encoder(changed) - encoder(clip)).abs().amax(-1).view(3, 2, 3)
        assert [tuple(place) for place in difference.gt(1e-6).nonzero().tolist()] == reached


@pytest.mark.parametrize("rope", ["vjepa2", None])
def test_factorised_attention_is_the_same_with_all_tokens_kept(rope: str | None) -> None:
    encoder, clip = make_encoder(attention="factorised", rope=rope), random_clip()
    everything = torch.arange(12).expand(2, -1)
    torch.testing.assert_close(encoder(clip, masks=[everything]), encoder(clip))
