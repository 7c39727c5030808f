"""How alike two pictures look, besides their pixels: what keeps a decoder from blurring everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.error import URLError

import torch
from torch import Tensor, nn

from models.encoders import encode_images
from models.errors import MissingDependencyError
from models.preprocess import normalise_pixels
from models.timm_encoder import import_timm
from training.latents import FrameEncoder

PerceptualKind = Literal["none", "lpips", "encoder"]
"""`lpips`: the learned distance of arXiv 1801.03924, by the package of that name, which downloads the
weights of a VGG. `encoder`: the distance between the frozen encoder's tokens of both pictures, which
needs nothing."""

PerceptualLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes drawn and true pixels `[B, 3, H, W]` in 0 to 1 and the true tokens `[B, N, D]`; gives a scalar."""

_WHITE = 255.0


def build_perceptual_loss(
    kind: PerceptualKind, encoder: FrameEncoder, device: torch.device
) -> PerceptualLoss | None:
    """Return what to add to the pixels' distance, None for nothing.

    Raises:
        MissingDependencyError: The package, or the weights it needs, cannot be had.
    """
    if kind == "none":
        return None
    if kind == "encoder":
        return TokenDistance(encoder)
    return _lpips(device)


class TokenDistance:
    """Distance between the tokens that a frozen encoder makes of two pictures.

    Args:
        encoder: The encoder; pictures have its frame size.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder.network

    def __call__(self, drawn: Tensor, true: Tensor, tokens: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean absolute difference of layer-normed tokens."""
        seen = encode_images(self._encoder, normalise_pixels(drawn * _WHITE))
        return (seen - tokens).abs().mean()


def _lpips(device: torch.device) -> PerceptualLoss:
    import_timm()  # lpips brings torchvision, which stumbles over a torch of another build without it
    try:
        import lpips

        network: nn.Module = lpips.LPIPS(net="vgg", verbose=False).to(device).eval()
    except ImportError as error:
        raise MissingDependencyError(
            "perceptual lpips needs the package; pip install lpips, or use `encoder`"
        ) from error
    except (URLError, OSError) as error:
        raise MissingDependencyError(
            f"lpips cannot download the weights of its VGG ({error}); put them into torch's cache, or "
            "use `encoder`"
        ) from error
    network.requires_grad_(requires_grad=False)
    return lambda drawn, true, _: network(drawn, true, normalize=True).mean()
