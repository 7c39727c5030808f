"""The energy and the features that are compared with the shipped ones."""

import pytest
import torch

from benchmarks.variants import PyramidEnergy
from models.timm_encoder import TimmEncoder, timm_config_for_grid
from planner_server.planning.energy import Energy, EnergySpec
from planner_server.planning.goal import Goal


@pytest.fixture
def tokens():
    return torch.randn(1, 2, 1, 16, 8, generator=torch.Generator().manual_seed(0))


def energies(kind, tokens, levels, finest, monkeypatch):
    monkeypatch.setattr(PyramidEnergy, "levels", levels)
    monkeypatch.setattr(PyramidEnergy, "finest", finest)
    goal = Goal.of(torch.zeros(16, 8))
    return kind(EnergySpec(), [goal], tokens).of_tokens(tokens)


def test_a_pyramid_of_one_level_is_the_plain_energy(tokens, monkeypatch):
    plain = energies(Energy, tokens, 1, 0, monkeypatch)
    torch.testing.assert_close(energies(PyramidEnergy, tokens, 1, 0, monkeypatch), plain)


def test_a_level_is_the_energy_of_the_means_over_squares(tokens, monkeypatch):
    quarters = tokens.view(1, 2, 1, 4, 4, 8)
    means = [
        quarters[:, :, :, row : row + 2, column : column + 2].mean(dim=(3, 4)).abs()
        for row in (0, 2)
        for column in (0, 2)
    ]
    coarse = torch.stack(means).mean(dim=(0, 3, 4))
    found = energies(PyramidEnergy, tokens, 2, 1, monkeypatch)
    torch.testing.assert_close(found, coarse)
    both = (coarse + energies(Energy, tokens, 1, 0, monkeypatch)) / 2
    torch.testing.assert_close(energies(PyramidEnergy, tokens, 2, 0, monkeypatch), both)


def test_features_of_photographs_come_one_per_patch():
    config = timm_config_for_grid("efficientnet_lite0_tokens", (4, 4))
    assert (config.img_size, config.patch_size, config.embed_dim) == ((64, 64), 16, 112)
    assert TimmEncoder(config).eval()(torch.zeros(1, 3, 1, 64, 64)).shape == (1, 16, 112)
