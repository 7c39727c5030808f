"""Frozen image encoders from timm, such as DINOv2 and DINOv3, behind the interface of ours.

timm is imported when such an encoder is built, never with the package: it brings torchvision, whose
compiled operators do not load beside a torch that was built for another machine.
Letters in shapes: B samples, T frames, H and W pixels, D channels, N tokens per frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from models.config import TimmEncoderConfig
from models.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingDependencyError,
    require_finite,
)
from models.preprocess import IMAGENET_MEAN, IMAGENET_STD

_MISSING_OPERATORS = ("nms", "qnms")
_libraries: list[torch.library.Library] = []  # schemas vanish with the library that defined them


class TimmEncoder(nn.Module):
    """An image encoder of timm that turns every frame of a clip into its patch tokens.

    Args:
        config: Which architecture, at which resolution.
        pretrained: Download timm's weights.
        weights: Use these, in timm's layout or that of the weights' authors; position tables are resampled to the
            resolution. Without either the weights are random until some are loaded.

    Raises:
        MissingDependencyError: timm is not installed.
        ConfigurationError: timm does not know the architecture, it makes no patch tokens, or its
            patches or channels are not the configured ones.
    """

    network: Any  # what timm builds has no common type

    def __init__(
        self,
        config: TimmEncoderConfig,
        *,
        pretrained: bool = False,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.network = _create(config.timm_model, config.img_size, weights, pretrained=pretrained)
        found = describe(self.network, config.timm_model, config.img_size)
        if found != config:
            raise ConfigurationError(
                f"timm's {config.timm_model} has patches of {found.patch_size} px and "
                f"{found.embed_dim} channels; configured are {config.patch_size} px and "
                f"{config.embed_dim}"
            )
        expected = self.network.pretrained_cfg  # what timm's weights were normalised with
        self._mean = tuple(expected.get("mean", IMAGENET_MEAN))
        self._std = tuple(expected.get("std", IMAGENET_STD))

    def forward(self, clip: Tensor) -> Tensor:
        """Encode every frame of a clip by itself.

        Args:
            clip: float `[B, 3, T, H, W]`, ImageNet-normalised, of the configured size.

        Returns:
            Patch tokens `[B, T * N, D]` after timm's final norm, class and register tokens dropped.

        Raises:
            InvalidInputError: The clip has other channels or another size, or numbers that are not
                finite.
        """
        size = self.config.img_size
        if clip.ndim != 5 or clip.shape[1] != 3 or clip.shape[3:] != size or 0 in clip.shape:
            raise InvalidInputError(
                f"the clip has shape {list(clip.shape)}; expected [B, 3, T, {size[0]}, {size[1]}]"
            )
        require_finite(clip=clip)
        batch, frames = clip.shape[0], clip.shape[2]
        images = self._renormalise(clip.transpose(1, 2).flatten(0, 1))
        tokens: Tensor = self.network.forward_features(images)  # [B * T, prefix + N, D]
        tokens = tokens[:, self.network.num_prefix_tokens :]
        return tokens.reshape(batch, frames * tokens.shape[1], -1)

    def _renormalise(self, images: Tensor) -> Tensor:
        """Exchange the ImageNet statistics for those that the network expects."""
        if (self._mean, self._std) == (IMAGENET_MEAN, IMAGENET_STD):
            return images
        mean, std, own_mean, own_std = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (IMAGENET_MEAN, IMAGENET_STD, self._mean, self._std)
        )
        return (images * std + mean - own_mean) / own_std


def timm_config_for_grid(timm_model: str, grid_size: tuple[int, int]) -> TimmEncoderConfig:
    """Return an architecture at the resolution that gives a grid of patches.

    Args:
        timm_model: timm's name.
        grid_size: Rows and columns of patches.

    Raises:
        MissingDependencyError: timm is not installed.
        ConfigurationError: timm does not know it, or it makes no patch tokens.
    """
    network = _create(timm_model)
    patches = getattr(network, "patch_embed", None)
    side = 1 if patches is None else patches.patch_size[0]
    return describe(network, timm_model, (side * grid_size[0], side * grid_size[1]))


def timm_config(timm_model: str, img_size: tuple[int, int]) -> TimmEncoderConfig:
    """Ask timm for the patch size and channels of an architecture.

    Args:
        timm_model: timm's name, such as `vit_small_patch14_dinov2`.
        img_size: Height and width of frames [px]; patches have to divide them.

    Raises:
        MissingDependencyError: timm is not installed.
        ConfigurationError: timm does not know it, or it makes no patch tokens.
    """
    return describe(_create(timm_model, img_size), timm_model, img_size)


def describe(network: Any, timm_model: str, img_size: tuple[int, int]) -> TimmEncoderConfig:
    """Return the configuration of a network that timm built.

    Raises:
        ConfigurationError: It makes no patch tokens, or patches do not divide the frames.
    """
    patches = getattr(network, "patch_embed", None)
    if patches is None or not hasattr(network, "num_prefix_tokens"):
        raise ConfigurationError(
            f"timm's {timm_model} makes no patch tokens; choose a vision transformer"
        )
    height, width = patches.patch_size
    if height != width or any(side % height for side in img_size):
        raise ConfigurationError(
            f"{timm_model} has patches of {height} x {width} px; choose an img_size that is a "
            f"multiple, not {img_size}"
        )
    return TimmEncoderConfig(
        timm_model=timm_model, img_size=img_size, patch_size=height, embed_dim=network.embed_dim
    )


def _create(
    timm_model: str,
    img_size: tuple[int, int] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    *,
    pretrained: bool = False,
) -> nn.Module:
    timm = import_timm()
    options: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": dict(weights)}
    try:
        # On the CPU even where weights are about to be loaded: position tables that timm computes
        # and never stores would stay empty on the meta device.
        with torch.device("cpu"):
            network: nn.Module = timm.create_model(
                timm_model, pretrained=pretrained or weights is not None, num_classes=0, **options
            )
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ConfigurationError(
            f"timm cannot build {timm_model!r} for frames of {img_size or 'their usual size'} [px] ({error}); "
            "choose a vision transformer of timm.list_models(), and weights that are its own"
        ) from error
    return network


def import_timm() -> ModuleType:
    """Import timm, also where torchvision came without operators for this torch.

    Raises:
        MissingDependencyError: timm is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "encoders from timm need the package timm; pip install 'timm>=1.0.15'"
        ) from error
    except RuntimeError as error:
        # torchvision found no compiled operators and stumbled over the schema of the first.
        if "torchvision::nms" not in str(error):
            raise
        _define_missing_operators()
        return importlib.import_module("timm")


def _define_missing_operators() -> None:
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _MISSING_OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
