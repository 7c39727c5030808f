"""The V-JEPA 2 encoder: a vision transformer over space-time patches (arXiv 2506.09985, section 2.1).

One class for V-JEPA 2 and 2.1 (arXiv 2603.14482); the configuration says which.
Letters in shapes: B samples, T frames, H and W pixels, D channels, N tokens, K tokens kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.config import EncoderConfig
from models.errors import InvalidInputError, require_finite
from models.factorised import run_in_space, run_in_time, same_frame, same_place
from models.layers import initialise, make_blocks, run_block
from models.rope import Rotary, grid_rotary
from models.sincos import sincos_positions
from models.token_masks import stack_masks

CHANNELS = 3
_MODALITY_STD = 1e-6  # image and video start out alike


class PatchEmbed(nn.Module):
    """Cut a clip into tubelets of patches and embed each linearly."""

    def __init__(self, config: EncoderConfig, tubelet_size: int | None = None) -> None:
        super().__init__()
        patch = (tubelet_size or config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(CHANNELS, config.embed_dim, kernel_size=patch, stride=patch)

    def forward(self, clip: Tensor) -> Tensor:
        """Turn a clip `[B, 3, T, H, W]` into tokens `[B, N, D]`, in raster order."""
        patches: Tensor = self.proj(clip)
        return patches.flatten(2).transpose(1, 2)


class _Grid(NamedTuple):
    """Tubelets, rows and columns of a clip."""

    frames: int
    rows: int
    columns: int


class VisionTransformer(nn.Module):
    """Encode clips, or the visible part of clips, into tokens.

    Attributes:
        checkpoint_activations: Recompute the blocks in the backward pass instead of keeping what
            they computed; less memory, more time, the same gradients.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        self.patch_embed = PatchEmbed(config)
        if config.separate_images:
            self.patch_embed_img = PatchEmbed(config, tubelet_size=1)
            self.img_mod_embed = nn.Parameter(torch.empty(1, 1, config.embed_dim))
            self.video_mod_embed = nn.Parameter(torch.empty(1, 1, config.embed_dim))
        self.blocks = make_blocks(config)
        if config.norm_layers is None:
            self.norm = _norm(config)
        else:
            self.norms_block = nn.ModuleList(_norm(config) for _ in config.norm_layers)
        initialise(self)
        if config.separate_images:
            nn.init.normal_(self.img_mod_embed, std=_MODALITY_STD)
            nn.init.normal_(self.video_mod_embed, std=_MODALITY_STD)

    def forward(self, clip: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Encode a clip.

        Args:
            clip: float `[B, 3, T, H, W]`, ImageNet-normalised. Any size that tubelets and patches
                divide; flavour `vjepa2` counts positions in patches and never rescales them. One
                frame alone is an image to encoders with `separate_images`.
            masks: Ids of the tokens to keep, each int64 `[B, K]` with one K for all. Hidden tokens
                are dropped before the first block.

        Returns:
            Tokens `[B, N, D]` after the final layer norm; with M masks `[M * B, K, D]`, the first
            mask's samples first.

        Raises:
            InvalidInputError: The clip has other channels, a size that patches do not divide, or
                numbers that are not finite; or masks do not belong to it.
        """
        return self.levels(clip, [self.config.depth - 1], masks)[0]

    def levels(
        self, clip: Tensor, out_layers: Sequence[int], masks: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Encode a clip and return what several blocks make of it.

        Args:
            clip: As in `forward`.
            out_layers: Numbers of blocks, from 0, rising. Each output is layer-normed: by the final
                norm, or in V-JEPA 2.1 by the block's own, which only `norm_layers` have.
            masks: As in `forward`.

        Returns:
            One tensor per block, shaped as `forward`'s.

        Raises:
            InvalidInputError: As in `forward`, or there are no such blocks.
        """
        self._check_layers(out_layers)
        grid = self._grid(clip)
        x = self._embed(clip, grid)
        rotary = self._rotary(grid, x)
        ids = None
        if masks is not None:
            ids = stack_masks("masks", masks, len(masks) * x.shape[0])
            x = x.repeat(len(masks), 1, 1).gather(1, ids.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            rotary = None if rotary is None else rotary.select(ids)
        outputs = []
        for index, block in enumerate(self.blocks[: out_layers[-1] + 1]):
            x = self._run(index, block, x, rotary, grid, ids)
            if index in out_layers:
                outputs.append(self._final_norm(index)(x))
        return outputs

    def _embed(self, clip: Tensor, grid: _Grid) -> Tensor:
        """Return the tokens `[B, N, D]` before the first block."""
        config = self.config
        if config.separate_images:
            is_image = clip.shape[2] == 1
            embed = self.patch_embed_img if is_image else self.patch_embed
            modality = self.img_mod_embed if is_image else self.video_mod_embed
            x: Tensor = embed(clip)
            # Under autocast the blocks compute in the type that a linear layer puts out.
            return x + modality.to(x.dtype)
        x = self.patch_embed(clip)
        if config.rope is None:
            learned = (config.num_frames // config.tubelet_size, *config.grid_size)
            x = x + sincos_positions(grid, learned, config.embed_dim).to(x)
        return x

    def _rotary(self, grid: _Grid, x: Tensor) -> Rotary | None:
        config = self.config
        if config.rope is None:
            return None
        return grid_rotary(*grid, config.head_dim, x.dtype, x.device, config.rope)

    def _run(
        self,
        index: int,
        block: nn.Module,
        x: Tensor,
        rotary: Rotary | None,
        grid: _Grid,
        ids: Tensor | None,
    ) -> Tensor:
        """Run a block with joint or factorised attention over whole or masked clips."""
        save = self.checkpoint_activations
        if self.config.attention == "joint":
            return run_block(block, x, rotary, checkpoint_activations=save)
        if ids is None:
            run = run_in_time if index % 2 else run_in_space
            return run(block, x, rotary, grid.frames, checkpoint_activations=save)
        places = grid.rows * grid.columns
        allowed = same_place(ids, places) if index % 2 else same_frame(ids, places)
        return run_block(block, x, rotary, allowed, checkpoint_activations=save)

    def _final_norm(self, index: int) -> nn.Module:
        if self.config.norm_layers is None:
            return self.norm
        return self.norms_block[self.config.norm_layers.index(index)]

    def _check_layers(self, layers: Sequence[int]) -> None:
        normed = self.config.norm_layers or range(self.config.depth)
        if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= set(normed):
            raise InvalidInputError(
                f"out_layers {list(layers)} are not available; choose, rising, from {list(normed)}"
            )

    def _grid(self, clip: Tensor) -> _Grid:
        """Return tubelets, rows and columns of a clip, or refuse it."""
        config = self.config
        if clip.ndim != 5 or clip.shape[1] != CHANNELS or not clip.is_floating_point():
            raise InvalidInputError(
                f"the clip has shape {list(clip.shape)} and type {clip.dtype}; expected float "
                f"[B, {CHANNELS}, T, H, W]"
            )
        frames, height, width = clip.shape[2:]
        is_image = config.separate_images and frames == 1
        patch, tubelet = config.patch_size, 1 if is_image else config.tubelet_size
        if frames % tubelet or height % patch or width % patch or 0 in clip.shape:
            raise InvalidInputError(
                f"a clip of {frames} frames of {height} x {width} px cannot be cut into tubelets "
                f"of {tubelet} frames and patches of {patch} px; crop or resize it first"
            )
        require_finite(clip=clip)
        return _Grid(frames // tubelet, height // patch, width // patch)


def _norm(config: EncoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
