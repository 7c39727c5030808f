"""The published rotary embedding, peculiarities included."""

import math

import torch

from models.rope import axis_channels, conditioned_rotary, grid_rotary

CPU = torch.device("cpu")


def test_published_heads_leave_their_last_channels_alone() -> None:
    assert [3 * axis_channels(head_dim) for head_dim in (64, 80, 32)] == [60, 78, 30]


def test_frequencies_are_tiled_over_pairs_as_the_published_weights_expect() -> None:
    position = 3
    rotary = grid_rotary(position + 1, 1, 1, 64, torch.float32, CPU)
    size = axis_channels(64)
    for channel in range(size):
        angle = position / 10_000 ** ((channel % (size // 2)) / (size // 2))
        sign = -1 if channel % 2 == 0 else 1
        assert math.isclose(rotary.cosine[position, channel], math.cos(angle), abs_tol=1e-6)
        assert math.isclose(rotary.sine[position, channel], sign * math.sin(angle), abs_tol=1e-6)


def test_the_first_place_is_not_rotated() -> None:
    channels = torch.randn(2, 3, 12, 32)
    rotated = grid_rotary(2, 2, 3, 32, torch.float32, CPU).rotate(channels)
    assert torch.equal(rotated[:, :, 0], channels[:, :, 0])
    assert not torch.allclose(rotated[:, :, 1], channels[:, :, 1])


def test_axes_are_time_then_row_then_column() -> None:
    size = axis_channels(32)
    sine = grid_rotary(2, 2, 2, 32, torch.float32, CPU).sine
    for axis, token in enumerate((4, 2, 1)):  # one step in time, row, column
        touched = sine[token].abs().gt(0).nonzero().flatten().tolist()
        assert touched == list(range(axis * size, (axis + 1) * size))


def test_tokens_without_a_place_turn_with_time_only() -> None:
    rotary = conditioned_rotary(3, 2, 2, 2, 32, torch.float32, CPU)
    patches = grid_rotary(3, 2, 2, 32, torch.float32, CPU)
    frames = rotary.cosine.view(3, 6, 32)
    assert torch.equal(frames[:, 2:], patches.cosine.view(3, 4, 32))
    # The first patch of a frame stands in row and column 0, where only time turns.
    assert torch.equal(frames[:, 0], frames[:, 2])
    assert torch.equal(frames[:, 1], frames[:, 2])


def test_selected_tokens_keep_their_angles() -> None:
    rotary = grid_rotary(2, 3, 3, 32, torch.float32, CPU)
    ids = torch.tensor([[0, 4, 17], [3, 2, 1]])
    channels = torch.randn(2, 5, 18, 32)
    chosen = channels.gather(2, ids[:, None, :, None].expand(-1, 5, -1, 32))
    expected = rotary.rotate(channels).gather(2, ids[:, None, :, None].expand(-1, 5, -1, 32))
    assert torch.equal(rotary.select(ids).rotate(chosen), expected)


def test_tables_are_built_once_and_may_be_trained_with_after_inference() -> None:
    with torch.inference_mode():
        table = grid_rotary(1, 5, 7, 32, torch.float32, CPU)
    assert grid_rotary(1, 5, 7, 32, torch.float32, CPU) is table
    channels = torch.randn(1, 1, 35, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(table.rotate(channels).sum(), channels)
    assert gradient.shape == channels.shape


def test_half_precision_tables_stay_near_the_exact_ones() -> None:
    exact = grid_rotary(1, 8, 8, 64, torch.float32, CPU)
    half = grid_rotary(1, 8, 8, 64, torch.bfloat16, CPU)
    assert half.cosine.dtype == torch.bfloat16
    assert (half.cosine.float() - exact.cosine).abs().max() < 0.05
