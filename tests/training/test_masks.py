"""Multi-block masks: what is kept and what is hidden."""

import pytest
import torch

from training.masks import PUBLISHED_MASKS, BlockMask, sample_masks

GRID = (4, 16, 16)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("mask", "published"), [(PUBLISHED_MASKS[0], 0.38), (PUBLISHED_MASKS[1], 0.19)]
)
def test_kept_share_equals_the_published_one(mask, published, generator):
    tokens = GRID[0] * GRID[1] * GRID[2]
    shares = [sample_masks(mask, 1, GRID, generator)[0].shape[1] / tokens for _ in range(400)]
    assert sum(shares) / len(shares) == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize("mask", PUBLISHED_MASKS)
def test_a_token_is_either_kept_or_hidden(mask, generator):
    keep, hidden = sample_masks(mask, 1, GRID, generator)
    together = torch.cat([keep, hidden], dim=1).sort().values
    torch.testing.assert_close(together, torch.arange(4 * 16 * 16)[None])


def test_a_batch_is_cut_to_its_shortest_sample(generator):
    keep, hidden = sample_masks(PUBLISHED_MASKS[0], 16, GRID, generator)
    assert keep.shape[0] == hidden.shape[0] == 16
    for kept_row, hidden_row in zip(keep.tolist(), hidden.tolist(), strict=True):
        assert not set(kept_row) & set(hidden_row)


def test_blocks_span_the_whole_clip(generator):
    keep, _ = sample_masks(BlockMask(2, 0.3), 1, GRID, generator)
    per_frame = [set((keep[0][keep[0] // 256 == t] % 256).tolist()) for t in range(GRID[0])]
    assert all(plane == per_frame[0] for plane in per_frame)


def test_same_seed_gives_the_same_masks():
    first, second = (
        sample_masks(PUBLISHED_MASKS[0], 4, GRID, torch.Generator().manual_seed(7))
        for _ in range(2)
    )
    torch.testing.assert_close(first, second)
