"""The published way through the networks, written out plainly: what `benchmarks.models` compares with.

Single precision; angles computed in every block anew; action and state tokens projected and rotated one
by one; a dense mask over all tokens, also where there is nothing to hide. The weights are those of our
networks, and so are the results.

Letters in shapes: B samples, T frames, N tokens, P patches per frame, D channels, C channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ac_predictor import ACPredictor
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor

LONGEST_CONTEXT = 32  # frames the published mask is made for


def encode(encoder: VisionTransformer, clip: Tensor) -> Tensor:
    """Encode a clip `[B, 3, T, H, W]` into tokens `[B, N, D]`."""
    config = encoder.config
    x = encoder.patch_embed(clip)
    rows, columns = clip.shape[3] // config.patch_size, clip.shape[4] // config.patch_size
    for block in encoder.blocks:
        y = block.norm1(x)
        q, k, v = _project(block.attn, y, config.num_heads)
        ids = torch.arange(y.shape[1], device=y.device)
        q, k = (_rotate_patches(z, ids, rows, columns) for z in (q, k))
        x = x + _mix(block.attn, q, k, v, None)
        x = x + _mlp(block.mlp, block.norm2(x))
    tokens: Tensor = encoder.norm(x)
    return tokens


def encode_frames(encoder: VisionTransformer, pixels: Tensor) -> Tensor:
    """Encode frames `[B, 3, H, W]`, each repeated to a tubelet, into layer-normed tokens `[B, P, D]`."""
    config = encoder.config
    clip = pixels.unsqueeze(2).repeat(1, 1, config.tubelet_size, 1, 1)
    return F.layer_norm(encode(encoder, clip), (config.embed_dim,))


def predict(predictor: ACPredictor, tokens: Tensor, actions: Tensor, states: Tensor) -> Tensor:
    """Predict the layer-normed tokens of the frame after the last one, `[B, P, D]`."""
    patches = predictor.config.tokens_per_frame
    return predict_frames(predictor, tokens, actions, states, LONGEST_CONTEXT)[:, -patches:]


def predict_frames(
    predictor: ACPredictor, tokens: Tensor, actions: Tensor, states: Tensor, longest: int
) -> Tensor:
    """Predict the layer-normed tokens of the frame after every frame, `[B, T * P, D]`.

    Args:
        predictor: The predictor.
        tokens: Tokens so far `[B, T * P, D]`.
        actions: Actions `[B, T, 7]`.
        states: States `[B, T, 7]`.
        longest: Frames that the mask is made for: 32 to plan, 512 to train.
    """
    config = predictor.config
    (rows, columns), frames = config.grid_size, actions.shape[1]
    patches = predictor.predictor_embed(tokens).unflatten(1, (frames, rows * columns))
    conditions = [predictor.action_encoder(actions), predictor.state_encoder(states)]
    x = torch.cat([*(c.unsqueeze(2) for c in conditions), patches], dim=2).flatten(1, 2)
    mask = dense_mask(longest, 2 + rows * columns)[: x.shape[1], : x.shape[1]].to(x.device)
    for block in predictor.predictor_blocks:
        q, k, v = _conditioned(block, x, frames, config.num_heads, (rows, columns))
        x = x + _mix(block.attn, q, k, v, mask)
        x = x + _mlp(block.mlp, block.norm2(x))
    x = x.unflatten(1, (frames, -1))[:, :, 2:].flatten(1, 2)
    predicted = predictor.predictor_proj(predictor.predictor_norm(x))
    if config.residual:  # not published: our shipped model predicts the change
        predicted = predicted + tokens
    return F.layer_norm(predicted, (config.embed_dim,))


def encode_visible(encoder: VisionTransformer, clip: Tensor, ids: Tensor) -> Tensor:
    """Encode the tokens `ids` `[B, K]` of a clip, `[B, K, D]`."""
    config = encoder.config
    x = encoder.patch_embed(clip)
    x = x.gather(1, ids.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    rows, columns = clip.shape[3] // config.patch_size, clip.shape[4] // config.patch_size
    for block in encoder.blocks:
        x = _block(block, x, ids, rows, columns, config.num_heads)
    tokens: Tensor = encoder.norm(x)
    return tokens


def fill_in(predictor: MaskPredictor, context: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    """Predict the tokens `hidden` `[B, M]` from the encoded `visible` ones `[B, K]`, sorted by place."""
    config = predictor.config
    x = predictor.predictor_embed(context)
    placeholders = predictor.mask_tokens[0].expand(*hidden.shape, -1)
    ids = torch.cat([visible, hidden], dim=1)
    order = ids.argsort(dim=1)
    x = torch.cat([x, placeholders.to(x.dtype)], dim=1)
    x = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    ids = ids.gather(1, order)
    for block in predictor.predictor_blocks:
        x = _block(block, x, ids, *config.grid_size, config.num_heads)
    x = predictor.predictor_norm(x)
    back = order.argsort(dim=1)
    x = x.gather(1, back.unsqueeze(-1).expand(-1, -1, x.shape[-1]))[:, visible.shape[1] :]
    predicted: Tensor = predictor.predictor_proj(x)
    return predicted


def _block(block: nn.Module, x: Tensor, ids: Tensor, rows: int, columns: int, heads: int) -> Tensor:
    """Run a block over tokens at places `[B, N]`."""
    q, k, v = _project(block.attn, block.norm1(x), heads)
    places = ids.unsqueeze(1)
    q, k = (_rotate_patches(z, places, rows, columns) for z in (q, k))
    x = x + _mix(block.attn, q, k, v, None)
    y: Tensor = x + _mlp(block.mlp, block.norm2(x))
    return y


_MASKS: dict[tuple[int, int], Tensor] = {}


def dense_mask(frames: int, tokens_per_frame: int) -> Tensor:
    """Return who may see whom, made once for the longest context."""
    key = (frames, tokens_per_frame)
    if key not in _MASKS:
        frame = torch.arange(frames).repeat_interleave(tokens_per_frame)
        _MASKS[key] = frame.unsqueeze(1) >= frame.unsqueeze(0)
    return _MASKS[key]


def _conditioned(
    block: nn.Module, x: Tensor, frames: int, heads: int, grid: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Project and rotate the action, the state and the patches of every frame, one kind at a time."""
    y = block.norm1(x).unflatten(1, (frames, -1))
    time = torch.arange(frames, device=x.device)
    parts = []
    for token in range(2):
        q, k, v = _project(block.attn, y[:, :, token], heads)
        size = 2 * (q.shape[-1] // 3 // 2)
        q, k = (torch.cat([_rotate(z[..., :size], time), z[..., size:]], dim=-1) for z in (q, k))
        parts.append([z.unsqueeze(3) for z in (q, k, v)])
    q, k, v = _project(block.attn, y[:, :, 2:].flatten(1, 2), heads)
    ids = torch.arange(q.shape[2], device=x.device)
    q, k = (_rotate_patches(z, ids, *grid) for z in (q, k))
    parts.append([z.unflatten(2, (frames, -1)) for z in (q, k, v)])
    q, k, v = (torch.cat(kind, dim=3).flatten(2, 3) for kind in zip(*parts, strict=True))
    return q, k, v


def _project(attention: nn.Module, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = attention.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def _mix(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    mixed: Tensor = attention.proj(y.transpose(1, 2).flatten(2))
    return mixed


def _mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = mlp.fc2(F.gelu(mlp.fc1(x)))
    return y


def _rotate_patches(x: Tensor, ids: Tensor, rows: int, columns: int) -> Tensor:
    """Rotate `[B, heads, N, C]` by the time, row and column of every token."""
    size = 2 * (x.shape[-1] // 3 // 2)
    positions = (ids // (rows * columns), ids % (rows * columns) // columns, ids % columns)
    parts = [
        _rotate(x[..., axis * size : (axis + 1) * size], position)
        for axis, position in enumerate(positions)
    ]
    return torch.cat([*parts, x[..., 3 * size :]], dim=-1)


def _rotate(x: Tensor, position: Tensor) -> Tensor:
    """Rotate neighbouring channels by the published, tiled angles."""
    half = x.shape[-1] // 2
    omega = 1.0 / 10_000 ** (torch.arange(half, dtype=x.dtype, device=x.device) / half)
    angles = position.to(x.dtype).unsqueeze(-1) * omega
    angles = torch.cat([angles, angles], dim=-1)
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-second, first), dim=-1).flatten(-2)
    return x * angles.cos() + turned * angles.sin()
