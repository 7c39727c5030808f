"""The V-JEPA 2 encoder: a vision transformer over space-time patches (arXiv 2506.09985, section 2.1).

Letters in shapes: B samples, T frames, H and W pixels, D channels, N tokens, K tokens kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.config import EncoderConfig
from models.errors import InvalidInputError
from models.layers import NORM_EPS, initialise, make_blocks
from models.rope import grid_rotary

CHANNELS = 3


class PatchEmbed(nn.Module):
    """Cut a clip into tubelets of patches and embed each linearly."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        patch = (config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(CHANNELS, config.embed_dim, kernel_size=patch, stride=patch)

    def forward(self, clip: Tensor) -> Tensor:
        """Turn a clip `[B, 3, T, H, W]` into tokens `[B, N, D]`, in raster order."""
        patches: Tensor = self.proj(clip)
        return patches.flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Encode clips, or the visible part of clips, into tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = make_blocks(config)
        self.norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)
        initialise(self)

    def forward(self, clip: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Encode a clip.

        Args:
            clip: float `[B, 3, T, H, W]`, ImageNet-normalised. Any size that tubelets and patches
                divide; positions are counted in patches and never rescaled.
            masks: Ids of the tokens to keep, each int64 `[B, K]` with one K for all. Hidden tokens
                are dropped before the first block.

        Returns:
            Tokens `[B, N, D]` after the final layer norm; with M masks `[M * B, K, D]`, the first
            mask's samples first.

        Raises:
            InvalidInputError: The clip has other channels or a size that patches do not divide.
        """
        frames, rows, columns = self._grid(clip)
        x: Tensor = self.patch_embed(clip)
        # Under autocast the blocks compute in the type that a linear layer puts out.
        rotary = grid_rotary(frames, rows, columns, self.config.head_dim, x.dtype, x.device)
        if masks is not None:
            ids = torch.cat(list(masks))
            x = x.repeat(len(masks), 1, 1).gather(1, ids.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            rotary = rotary.select(ids)
        for block in self.blocks:
            x = block(x, rotary)
        tokens: Tensor = self.norm(x)
        return tokens

    def _grid(self, clip: Tensor) -> tuple[int, int, int]:
        """Return tubelets, rows and columns of a clip, or refuse it."""
        config = self.config
        if clip.ndim != 5 or clip.shape[1] != CHANNELS:
            raise InvalidInputError(
                f"the clip has shape {list(clip.shape)}; expected [B, {CHANNELS}, T, H, W]"
            )
        frames, height, width = clip.shape[2:]
        patch, tubelet = config.patch_size, config.tubelet_size
        if frames % tubelet or height % patch or width % patch or 0 in clip.shape:
            raise InvalidInputError(
                f"a clip of {frames} frames of {height} x {width} px cannot be cut into tubelets "
                f"of {tubelet} frames and patches of {patch} px; crop or resize it first"
            )
        return frames // tubelet, height // patch, width // patch
