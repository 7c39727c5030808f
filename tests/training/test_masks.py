"""Masks: what is kept and what is hidden, and that the reference would draw the same."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from training.errors import ConfigurationError
from training.masks import PUBLISHED_MASKS, BlockMask, FrameMask, FutureMask, sample_masks

GRID = (4, 16, 16)
PLACES = 16 * 16
OTHERS = [
    FutureMask(),
    FutureMask(rates=(1, 2)),
    FrameMask(),
    BlockMask(blocks=4, scale=0.2, duration=0.5),
    BlockMask(blocks=2, scale=0.3, duration=0.5, causal=True),
    BlockMask(blocks=8, scale=0.15, visible=0.5),
]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def draw(mask, batch, generator, grid=GRID):
    return sample_masks(mask, batch, grid, generator, generator)


def tubelets(ids):
    return set((ids // PLACES).tolist())


@pytest.mark.parametrize(
    ("mask", "published"), [(PUBLISHED_MASKS[0], 0.38), (PUBLISHED_MASKS[1], 0.19)]
)
def test_kept_share_equals_the_published_one(mask, published, generator):
    tokens = math.prod(GRID)
    shares = [draw(mask, 1, generator)[0].shape[1] / tokens for _ in range(400)]
    assert sum(shares) / len(shares) == pytest.approx(published, abs=0.03)


def reference_kept(mask, batch, rng, rows=16, columns=16):
    """Kept patches of every frame of a group, by the reference's rules written down once more."""
    area = int(rows * columns * mask.scale)
    ratio = rng.uniform(0.75, 1.5)
    height = min(round(math.sqrt(area * ratio)), rows)
    width = min(round(math.sqrt(area / ratio)), columns)
    counts = []
    while len(counts) < batch:
        visible = np.ones((rows, columns), bool)
        for _ in range(mask.blocks):
            top = rng.integers(0, rows - height + 1)
            left = rng.integers(0, columns - width + 1)
            visible[top : top + height, left : left + width] = False
        if visible.any():
            counts.append(int(visible.sum()))
    return min(counts)


@pytest.mark.parametrize("mask", PUBLISHED_MASKS)
@pytest.mark.parametrize("batch", [1, 12])
def test_kept_tokens_are_distributed_as_in_the_reference(mask, batch, generator):
    rng = np.random.default_rng(0)
    draws = 300
    ours = np.sort([draw(mask, batch, generator, (1, 16, 16))[0].shape[1] for _ in range(draws)])
    theirs = np.sort([reference_kept(mask, batch, rng) for _ in range(draws)])
    # Two-sample Kolmogorov-Smirnov; 1.95 sqrt(2 / n) is its critical value at 0.1 %.
    values = np.unique(np.concatenate([ours, theirs]))
    distance = np.abs(
        np.searchsorted(ours, values, "right") - np.searchsorted(theirs, values, "right")
    ).max()
    assert distance / draws < 1.95 * math.sqrt(2 / draws)


@pytest.mark.parametrize("mask", PUBLISHED_MASKS)
def test_a_token_is_either_kept_or_hidden(mask, generator):
    keep, hidden = draw(mask, 1, generator)
    together = torch.cat([keep, hidden], dim=1).sort().values
    torch.testing.assert_close(together, torch.arange(4 * PLACES)[None])


@pytest.mark.parametrize("mask", [*PUBLISHED_MASKS, *OTHERS])
def test_no_token_is_both_kept_and_hidden_and_samples_stack(mask, generator):
    for _ in range(5):
        keep, hidden = draw(mask, 6, generator)
        assert keep.shape[0] == hidden.shape[0] == 6
        assert keep.shape[1] > 0
        assert hidden.shape[1] > 0
        for kept_row, hidden_row in zip(keep.tolist(), hidden.tolist(), strict=True):
            assert not set(kept_row) & set(hidden_row)
            assert kept_row == sorted(set(kept_row))


def test_blocks_span_the_whole_clip(generator):
    keep, _ = draw(BlockMask(blocks=2, scale=0.3), 1, generator)
    planes = [set((keep[0][keep[0] // PLACES == t] % PLACES).tolist()) for t in range(GRID[0])]
    assert all(plane == planes[0] for plane in planes)


def test_the_future_follows_what_is_seen(generator):
    keep, hidden = draw(FutureMask(), 3, generator)
    assert max(tubelets(keep[0])) < min(tubelets(hidden[0]))
    assert tubelets(keep[0]) | tubelets(hidden[0]) == {0, 1, 2, 3}


def test_targets_of_a_slower_rate_leave_moments_out(generator):
    mask = FutureMask(visible=(0.25, 0.25), rates=(2,))
    keep, hidden = draw(mask, 1, generator, (8, 16, 16))
    assert tubelets(keep[0]) == {0, 1}
    assert tubelets(hidden[0]) == {3, 5, 7}


def test_dropped_frames_differ_between_samples(generator):
    _, hidden = draw(FrameMask(dropped=(0.5, 0.5)), 16, generator, (8, 16, 16))
    dropped = {tuple(sorted(tubelets(row))) for row in hidden}
    assert len(dropped) > 1
    assert all(len(frames) == 4 for frames in dropped)


def test_a_causal_mask_shows_the_past_only(generator):
    mask = BlockMask(blocks=1, scale=0.3, duration=0.5, causal=True)
    for _ in range(10):
        keep, hidden = draw(mask, 1, generator)
        assert max(tubelets(keep[0])) < min(tubelets(hidden[0]))


def test_a_causal_mask_of_the_whole_clip_is_refused():
    with pytest.raises(ValidationError, match="shorten duration"):
        BlockMask(blocks=1, scale=0.3, causal=True)


def test_blocks_that_leave_nothing_are_refused(generator):
    with pytest.raises(ConfigurationError, match="fewer or smaller"):
        draw(BlockMask(blocks=1, scale=1.0, aspect_ratio=(1.0, 1.0)), 1, generator)


def test_same_seed_gives_the_same_masks():
    first, second = (
        draw(PUBLISHED_MASKS[0], 4, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    torch.testing.assert_close(first, second)
